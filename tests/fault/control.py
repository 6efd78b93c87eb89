"""The page of control.h from outside: what the fault-injecting build is to break, and what it has counted."""
import mmap
import struct

FIELDS = ["kind", "code", "first", "times", "calls", "fired", "cut_at", "cut_seed", "ops", "track", "mutant", "alloc_first",
          "alloc_times", "allocs", "alloc_fired", "live_blocks", "live_bytes", "trace", "wall_shift_ms",
          "eager_checkpoints", "fresh_readers", "call_first", "call_times", "calls_made", "call_fired", "call_code"]
KINDS = {"none": 0, "read": 1, "write": 2, "sync": 3, "truncate": 4, "open": 5, "shm-map": 6, "short": 7}
MUTANTS = {"none": 0, "no-sync": 1, "early-answer": 2, "freed-request": 3}
CUT_STATUS = 99


class Control:
    """Attributes named as in control.h; `environment` is for the program's start."""

    def __init__(self, path):
        with open(path, "wb") as file:
            file.write(bytes(4096))
        with open(path, "r+b") as file:
            object.__setattr__(self, "page", mmap.mmap(file.fileno(), 4096))
        object.__setattr__(self, "environment", {"ANNOTMIX_FAULT": str(path)})

    def __getattr__(self, name):
        return struct.unpack_from("q", self.page, 8 * FIELDS.index(name))[0]

    def __setattr__(self, name, value):
        struct.pack_into("q", self.page, 8 * FIELDS.index(name), value)

    def fail(self, kind, code, first=1, times=0):
        """The first-th call of a kind from now on fails, and `times` in all (0: until disarm)."""
        self.kind, self.calls, self.fired, self.code, self.first, self.times = 0, 0, 0, code, first, times
        self.kind = KINDS[kind]

    def disarm(self):
        self.kind = 0
        return self.fired
