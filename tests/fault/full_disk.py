#!/usr/bin/env python3
"""A disk that is really full: a small tmpfs is mounted, filled with labels, and given room again.

    full_disk.py --binary build/annotmixd [--mib 24] [--seed N] [--work FOLDER]

1. The database on the full disk: labels are posted until 507. Then: answers to writes are 507, never a false 2xx; reading
   goes on; /readyz is 503, /livez 200; after room is made writes work again within 10 s without help; a new program on the
   same file has everything that was acknowledged and nothing that was refused, and the file is whole.
2. The disk reserve: with less free than the default reserve instances are 507 while labels are taken.
3. Backups to a full disk: the failure is in the log and the metrics, writes go on, nothing half made stays, and the next
   one after room was made is whole.

Mounting takes root; where it is not allowed the test says so and is skipped.
"""
import argparse
import contextlib
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from campaign import report
from server import Server

MIB = 1024 * 1024
BACK_SECONDS = 10
BALLAST = 4 * MIB
BULK = 200


@contextlib.contextmanager
def small_disk(parent, mib):
    folder = parent / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "tmpfs", str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def start(options, *words, **more):
    server = Server(options.binary, *words, **more)
    options.servers.append(server)
    return server


def fill(path, n):
    """A file of n bytes that are really there, or of as many as fit."""
    with open(path, "wb", buffering=0) as file:
        try:
            for _ in range(n // 65536):
                file.write(bytes(65536))
        except OSError:
            pass


def eventually(condition, seconds):
    """How long it took until condition() was true; None: it never was."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() > begun + seconds:
            return None
        time.sleep(0.05)
    return time.monotonic() - begun


class Labels:
    """Posts labels and knows which were acknowledged."""

    def __init__(self, server, rng):
        self.server, self.rng, self.made, self.known, self.wrong = server, rng, 0, {}, []
        self.refused = set()

    def post(self, n):
        """The status; a request of more than one label is atomic."""
        rows = []
        for _ in range(n):
            rows.append((f"i{self.made}", f"a{self.made % 7}", self.rng.choice("xyz")))
            self.made += 1
        lines = "".join(f'{{"instance":"{i}","annotator":"{a}","class":"{c}"}}\n' for i, a, c in rows)
        if n == 1:
            i, a, c = rows[0]
            status, answer = self.server.call("POST", "/v1/projects/d/labels", {"instance": i, "annotator": a, "class": c})
        else:
            status, answer = self.server.call("POST", "/v1/projects/d/labels?atomic=true", lines, "application/x-ndjson")
        if status in (200, 201):
            self.known.update({(i, a): c for i, a, c in rows})
            if n > 1 and answer["accepted"] != n:
                self.wrong.append(f"accepted {answer['accepted']} of {n}")
        elif status == 507:
            self.refused.update((i, a) for i, a, _ in rows)
        else:
            self.wrong.append(f"{n} labels: {status} {str(answer)[:200]}")
        return status

    def feed(self):
        found, cursor = {}, None
        while True:
            page = self.server.must("GET", "/v1/projects/d/labels?limit=1000" + (f"&cursor={cursor}" if cursor else ""))
            found.update({(item["instance"], item["annotator"]): item["class"] for item in page["items"]})
            cursor = page["next_cursor"]
            if cursor is None:
                return found


def database_full(options, disk, log, checks):
    fill(disk / "ballast", BALLAST)
    server = start(options, disk / "a.db", "--disk-reserve", "0", log=log)
    server.must("POST", "/v1/projects", {"name": "d", "classes": ["x", "y", "z"]})
    labels = Labels(server, random.Random(options.seed))
    while labels.post(BULK) in (200, 201) and labels.made < 10**6:
        pass
    full_at = len(labels.known)
    seen = [labels.post(n) for n in (1, BULK, 1, 1, BULK, 1)]
    live, ready = server.call("GET", "/livez")[0], server.call("GET", "/readyz")[0]
    same = labels.feed() == labels.known
    (disk / "ballast").unlink()
    waited = eventually(lambda: labels.post(1) == 201, BACK_SECONDS)
    ready_again = eventually(lambda: server.call("GET", "/readyz")[0] == 200, BACK_SECONDS)
    after = labels.post(BULK)
    pid_alive = server.process.poll() is None
    status, _ = server.stop()
    server = start(options, disk / "a.db", "--disk-reserve", "0", log=log)
    labels.server = server
    feed = labels.feed()
    again, _ = server.stop()
    with contextlib.closing(sqlite3.connect(disk / "a.db")) as db:
        whole = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    print(f"full after {full_at} labels; writes again {-1 if waited is None else waited:.1f} s after there was room")
    checks += [
        (f"{full_at} labels until the disk was full, then 507: {seen}", full_at > 1000 and set(seen) == {507}),
        ("reading goes on: all that was acknowledged", same),
        (f"/livez {live}, /readyz {ready}", live == 200 and ready == 503),
        (f"writes again within {BACK_SECONDS} s of room, ready too",
         waited is not None and ready_again is not None and after in (200, 201)),
        (f"no other answer {labels.wrong[:3]}", not labels.wrong),
        (f"a new start has {len(feed)} labels, {len(labels.known)} acknowledged, {len(labels.refused)} refused",
         feed == labels.known),
        ("the file is whole, both ended in order", whole and pid_alive and status == 0 and again == 0),
    ]


def reserve(options, disk, log, checks):
    server = start(options, disk / "a.db", log=log)  # the default reserve is more than this disk has
    server.must("POST", "/v1/projects", {"name": "d", "classes": ["x", "y", "z"]})
    labels = Labels(server, random.Random(options.seed))
    instance, problem = server.call("POST", "/v1/projects/d/instances", {"instances": [{"id": "n"}]})
    one, bulk = labels.post(1), labels.post(BULK)
    unknown, _ = server.call("GET", "/v1/projects/d/instances/n")
    ready, _ = server.call("GET", "/readyz")
    status, _ = server.stop()
    checks.append((f"below the reserve: instances {instance}, labels {one} and {bulk}, ready {ready}",
                   instance == 507 and "reserve" in problem["detail"] and one == 201 and bulk in (200, 201) and unknown == 404
                   and ready == 200 and status == 0))


def metric(server, name):
    connection = server.connection()
    connection.request("GET", "/metrics")
    return float(re.search(rf"^annotmix_{name} (\S+)$", connection.getresponse().read().decode(), re.M).group(1))


def backup_full(options, parent, disk, log, checks):
    fill(disk / "ballast", 64 * MIB)
    server = start(options, parent / "b.db", "--backup-dir", str(disk), "--backup-every", "1s", log=log)
    server.must("POST", "/v1/projects", {"name": "d", "classes": ["x", "y", "z"]})
    labels = Labels(server, random.Random(options.seed))
    failed = eventually(lambda: metric(server, "backups_failed_total") >= 2, 30)
    loud, made = metric(server, "backup_last_failed"), metric(server, "backups_made_total")
    wrote, ready = labels.post(BULK), server.call("GET", "/readyz")[0]
    left = [name for name in os.listdir(disk) if name != "ballast"]
    (disk / "ballast").unlink()
    worked = eventually(lambda: metric(server, "backup_last_failed") == 0, 30)
    status, _ = server.stop()
    copies = sorted(disk.glob("*.db"))
    counts = []
    if copies:
        with contextlib.closing(sqlite3.connect(copies[-1])) as db:
            counts = [db.execute("PRAGMA integrity_check").fetchone()[0], db.execute("SELECT count(*) FROM labels").fetchone()[0]]
    checks += [
        ("backups to a full disk fail loudly, writes go on, nothing half made stays",
         failed is not None and loud == 1 and made == 0 and wrote in (200, 201) and ready == 200 and not left),
        (f"with room the next backup is whole: {counts}", worked is not None and counts == ["ok", BULK] and status == 0),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="build/annotmixd")
    parser.add_argument("--mib", type=int, default=24)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--work", type=Path, help="a folder for the mount point; default: a temporary one")
    options = parser.parse_args()
    options.servers = []
    print(f"seed {options.seed}, a disk of {options.mib} MiB", flush=True)
    checks = []
    with tempfile.TemporaryDirectory(prefix="annotmix-full-", dir=options.work) as parent, open(Path(parent) / "log", "w+b") as log:
        parent = Path(parent)
        try:
            with small_disk(parent, 1):
                pass
        except (subprocess.CalledProcessError, FileNotFoundError, PermissionError) as error:
            print(f"skipped: a tmpfs cannot be mounted here: {getattr(error, 'stderr', None) or error}")
            return report([])
        try:
            for test in (database_full, reserve):
                with small_disk(parent, options.mib) as disk:
                    test(options, disk, log, checks)
            with small_disk(parent, options.mib) as disk:
                backup_full(options, parent, disk, log, checks)
        finally:
            for server in options.servers:
                server.kill()
        text = (parent / "log").read_text(encoding="utf-8")
        loud = [what for what in ("disk full: read-only until there is room", "the disk takes writes again", "the backup failed")
                if what not in text]
        checks.append((f"told in the log {loud or ''}", not loud))
        if not all(good for _, good in checks):
            print(text[-4000:])
    return report(checks)


if __name__ == "__main__":
    sys.exit(main())
