"""A long test in pieces: each piece has its own seed and leaves a line in a log, so that a campaign that was stopped goes
on where it was. The log is one JSON object a line; `total` adds the figures of all pieces up."""
import json
import random
from pathlib import Path


class Campaign:
    def __init__(self, log, seed):
        self.path = Path(log) if log else None
        self.lines = []
        if self.path and self.path.exists():
            self.lines = [json.loads(line) for line in self.path.read_text(encoding="ascii").splitlines()]
        if self.lines:
            seed = self.lines[0]["seed"]
        self.seed = seed if seed is not None else random.SystemRandom().randrange(10**9)

    def pieces(self, n):
        """(number, random generator) of those that are not done."""
        done = {line["piece"] for line in self.lines}
        for number in range(n):
            if number not in done:
                yield number, random.Random(f"{self.seed} {number}")

    def named(self, names):
        """(name, random generator) of those that are not done; others may be added later without disturbing these."""
        done = {line["piece"] for line in self.lines}
        for name in names:
            if name not in done:
                yield name, random.Random(f"{self.seed} {name}")

    def finish(self, number, **figures):
        line = {"seed": self.seed, "piece": number, **figures}
        self.lines.append(line)
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="ascii") as file:
                file.write(json.dumps(line) + "\n")

    def total(self, name, combine=sum):
        return combine([line.get(name, 0) for line in self.lines] or [0])


def report(checks):
    """Prints [(text, good)] and the closing line; returns the exit status."""
    for text, good in checks:
        print(("ok: " if good else "FAIL: ") + text)
    failed = sum(not good for _, good in checks)
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0
