#!/usr/bin/env python3
"""Disk errors at the k-th call: no crash, no false 2xx, the right status, and back to work by itself.

    disk_errors.py --binary build/default/fault/annotmixd-fault [--calls 300] [--step 1] [--seed N] [--log FILE] [--jobs 4]

For each kind of call (read, write, short write, sync, truncate, open, shared memory), EIO and ENOSPC, and each k up to
--calls: the k-th call from now on fails, once or until it is disarmed (each k has both: one with EIO, one with ENOSPC),
while labels, bulks, instances, corrections and questions go on. So that rare calls come as often as the others, the WAL is
emptied after every group (half of the pieces) and readers are opened anew (kinds open and shm-map). Every fault must come.
Then: every answer was 2xx, 503 or 507; after the fault the server takes writes
again within 10 s without help (after a failed sync it must instead end with status 75, and a new one goes on); and a new
program on the same file knows exactly what was acknowledged and nothing of what was refused.

--log FILE: a campaign that was stopped goes on where it was.
"""
import argparse
import errno
import http.client
import random
import sqlite3
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from campaign import Campaign, report
from control import KINDS, Control
from server import Server

CODES = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}
KS_PER_PIECE = 10
N_INSTANCES = 40
MOST_REQUESTS = 1000
BACK_SECONDS = 10
EXIT_FSYNC = 75
STARTS = {"open": 4, "shm-map": 3}  # calls of a start, where there are few


class Wrong(Exception):
    """What an I/O error must never do."""


class Book:
    """What the database must hold: labels by (instance, annotator), and those that may or may not be there."""

    def __init__(self):
        self.labels, self.unknown, self.instances, self.annotators = {}, {}, {f"i{i}" for i in range(N_INSTANCES)}, 0
        self.groups = []  # requests of which it is not known whether they were done; each wholly or not at all

    def annotator(self):
        self.annotators += 1
        return f"a{self.annotators}"


def start(binary, db, control, log, codes):
    """The server, or None when a disk error was told and the program ended with 1 or 75."""
    try:
        return Server(binary, db, "--trainers", "1", "--disk-reserve", "0", log=log, environment=control.environment)
    except RuntimeError as error:
        for code in codes:
            if f"exit status {code}" in str(error):
                return None
        raise Wrong(f"start: {error}") from error


def good(status, where):
    """True for 2xx; anything but 503 and 507 beside it is wrong."""
    if 200 <= status < 300:
        return True
    if status not in (503, 507):
        raise Wrong(f"{where}: status {status}")
    return False


def send_labels(server, connection, book, rng):
    n = 1 if rng.random() < 0.7 else rng.randint(2, 60)
    labels = [(f"i{rng.randrange(N_INSTANCES)}", book.annotator(), rng.choice("xyz")) for _ in range(n)]
    for instance, annotator, name in labels:
        book.unknown[instance, annotator] = name
    if n == 1:
        instance, annotator, name = labels[0]
        status, answer = server.call("POST", "/v1/projects/d/labels",
                                     {"instance": instance, "annotator": annotator, "class": name}, connection=connection)
    else:
        body = "".join(f'{{"instance":"{i}","annotator":"{a}","class":"{c}"}}\n' for i, a, c in labels)
        status, answer = server.call("POST", "/v1/projects/d/labels?atomic=true", body, "application/x-ndjson",
                                     connection=connection)
    done = good(status, f"{n} labels")
    if not done and "not known" in answer["detail"]:
        book.groups.append([key[:2] for key in labels])
        return False
    if done and n > 1 and answer["accepted"] != n:
        raise Wrong(f"{answer['accepted']} of {n} accepted: {answer}")
    for instance, annotator, name in labels:
        del book.unknown[instance, annotator]
        if done:
            book.labels[instance, annotator] = name
    return done


def correct_label(server, connection, book, rng):
    if not book.labels:
        return True
    key = rng.choice(sorted(book.labels)[-20:])
    new = rng.choice("xyz")
    book.unknown[key] = new
    status, answer = server.call("POST", "/v1/projects/d/labels", {"instance": key[0], "annotator": key[1], "class": new},
                                 connection=connection)
    done = good(status, "a correction")
    if not done and "not known" in answer["detail"]:
        return False
    del book.unknown[key]
    if done:
        book.labels[key] = new
    return done


def add_instance(server, connection, book, rng):
    name = f"n{len(book.instances)}-{rng.randrange(10**9)}"
    status, _ = server.call("POST", "/v1/projects/d/instances", {"instances": [{"id": name, "features": [1, 2]}]},
                            connection=connection)
    done = good(status, "an instance")
    if done:
        book.instances.add(name)
    return done


def ask(server, connection, book, rng):
    path = rng.choice(["/labels?limit=100", "/instances?limit=50", f"/instances/i{rng.randrange(N_INSTANCES)}", "", "/annotators"])
    status, _ = server.call("GET", "/v1/projects/d" + path, connection=connection)
    return good(status, f"GET {path}")


def one_request(server, connection, book, rng, kind):
    weights = [1, 1, 1, 9] if kind in ("open", "shm-map", "read") else [6, 1, 1, 2]
    return rng.choices([send_labels, correct_label, add_instance, ask], weights)[0](server, connection, book, rng)


def provoke(server, control, book, rng, kind, persistent):
    """Requests until the fault has fired, and some more; what was refused is known to be refused."""
    connection, refused = server.connection(), 0
    for n in range(MOST_REQUESTS):
        try:
            refused += not one_request(server, connection, book, rng, kind)
        except (OSError, http.client.HTTPException) as error:
            if server.process.poll() is None and kind != "sync":
                raise Wrong(f"no answer: {error!r}") from error
            return True
        if control.fired and (not persistent or refused >= 3 or control.fired > 20):
            return True
    return control.fired > 0


def settle(server, control, book, rng):
    """After the fault: a write goes through by itself, soon; returns after how many seconds."""
    begun, connection = time.monotonic(), server.connection()
    while True:
        try:
            if send_labels(server, connection, book, rng):
                return time.monotonic() - begun
        except (OSError, http.client.HTTPException) as error:
            raise Wrong(f"afterwards no answer: {error!r}") from error
        if time.monotonic() > begun + BACK_SECONDS:
            raise Wrong(f"takes no writes {BACK_SECONDS} s after the fault")
        time.sleep(0.05)


def compare(server, book):
    """Everything acknowledged, nothing refused; what had no answer may be either."""
    feed, cursor = {}, None
    while True:
        page = server.must("GET", "/v1/projects/d/labels?limit=1000" + (f"&cursor={cursor}" if cursor else ""))
        for item in page["items"]:
            feed[item["instance"], item["annotator"]] = item["class"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    for group in book.groups:
        if 0 < sum(key in feed for key in group) < len(group):
            raise Wrong(f"half of a request is there: {group[:5]}")
    book.groups.clear()
    for key, name in book.unknown.items():
        if feed.get(key) == name:
            book.labels[key] = name
    book.unknown.clear()
    if feed != book.labels:
        lost = [k for k in book.labels if k not in feed]
        extra = [k for k in feed if k not in book.labels]
        raise Wrong(f"{len(lost)} lost {lost[:3]}, {len(extra)} half there {extra[:3]}, of {len(feed)}")
    connection = sqlite3.connect(f"file:{server.db}?mode=ro", uri=True)
    opinion = connection.execute("PRAGMA integrity_check").fetchall()
    names = {row[0] for row in connection.execute("SELECT name FROM instances")}
    connection.close()
    if opinion != [("ok",)]:
        raise Wrong(f"integrity_check: {opinion[:2]}")
    if not book.instances <= names:
        raise Wrong(f"instances lost: {sorted(book.instances - names)[:3]}")


def one_k(server, control, book, rng, kind, code, k, log):
    """One fault; returns (the server to go on with, fired?, seconds until writes went on)."""
    persistent = is_persistent(code, k)
    control.fail(kind, CODES[code], k, 0 if persistent else 1)
    fired = provoke(server, control, book, rng, kind, persistent)
    control.disarm()
    if kind == "sync" and fired:
        try:
            status = server.process.wait(20)
        except Exception as error:
            raise Wrong("still runs after a failed sync") from error
        if status != EXIT_FSYNC:
            raise Wrong(f"exit status {status} after a failed sync, not {EXIT_FSYNC}")
        server = start(server.binary, server.db, control, log, [])
        compare(server, book)
        return server, fired, 0
    if server.process.poll() is not None:
        raise Wrong(f"ended with status {server.process.poll()}")
    return server, fired, settle(server, control, book, rng)


def is_persistent(code, k):
    return (k % 2 == 0) == (code == "EIO")


def one_start(binary, db, control, log, kind, code, k):
    """The fault while the program starts: it starts all the same or says why not, and without the fault it starts."""
    control.fail(kind, CODES[code], k, 0 if is_persistent(code, k) else 1)
    server = start(binary, db, control, log, [1, EXIT_FSYNC])
    control.disarm()
    if server is not None:
        server.kill()


def one_piece(arguments, rng, kind, code, ks):
    fired, back = 0, 0.0
    with tempfile.TemporaryDirectory(prefix="annotmix-disk-") as folder, open(Path(folder) / "log", "w+b") as log:
        control, book, db = Control(Path(folder) / "control"), Book(), Path(folder) / "disk.db"
        control.eager_checkpoints = int(kind == "truncate" or rng.random() < 0.5)
        control.fresh_readers = int(kind in ("open", "shm-map"))
        server = start(arguments.binary, db, control, log, [])
        try:
            server.must("POST", "/v1/projects", {"name": "d", "classes": ["x", "y", "z"], "feature_dim": 2})
            server.must("POST", "/v1/projects/d/instances", {"instances": [
                {"id": f"i{i}", "features": [rng.random(), rng.random()]} for i in range(N_INSTANCES)]})
            for k in ks:
                try:
                    server, hit, seconds = one_k(server, control, book, rng, kind, code, k, log)
                    fired, back = fired + hit, max(back, seconds)
                    if rng.random() < 0.3:
                        server.kill()
                        one_start(arguments.binary, db, control, log, kind, code, rng.randint(1, STARTS.get(kind, 40)))
                        server = start(arguments.binary, db, control, log, [])
                        compare(server, book)
                except Wrong as error:
                    raise Wrong(f"{kind} {code} k={k}: {error}") from error
            server.kill()
            server = start(arguments.binary, db, control, log, [])
            compare(server, book)
            return fired, len(book.labels), back
        finally:
            if server is not None and server.process.poll() is None:
                server.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--step", type=int, default=1, help="every step-th piece of ten k only, beginning at a random one")
    parser.add_argument("--jobs", type=int, default=4, help="most of the time goes by waiting")
    parser.add_argument("--kind", choices=sorted(KINDS))
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--log")
    arguments = parser.parse_args()
    campaign = Campaign(arguments.log, arguments.seed)
    print(f"disk_errors: {arguments.calls} calls, --seed {campaign.seed}", flush=True)
    kinds = [k for k in KINDS if k != "none" and arguments.kind in (None, k)]
    pieces = [(kind, code, range(first, first + KS_PER_PIECE)) for first in range(1, arguments.calls + 1, KS_PER_PIECE)
              for kind in kinds for code in CODES]
    offset = random.Random(campaign.seed).randrange(arguments.step)
    lock = threading.Lock()

    def run(number, rng):
        kind, code, ks = pieces[number]
        wrong, fired, labels, back = "", 0, 0, 0
        try:
            fired, labels, back = one_piece(arguments, rng, kind, code, ks)
        except (Wrong, RuntimeError, OSError, http.client.HTTPException, sqlite3.Error) as error:
            wrong = f"{kind} {code} k={ks[0]}..: {error}"
            print(f"  piece {number}: {wrong}", flush=True)
        with lock:
            campaign.finish(number, kind=kind, code=code, ks=len(ks), fired=fired, labels=labels, wrong=wrong,
                            back=round(back, 2))

    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = [pool.submit(run, number, rng) for number, rng in campaign.pieces(len(pieces)) if number % arguments.step == offset]
        for n, job in enumerate(jobs, 1):
            job.result()
            if n % 20 == 0:
                print(f"  {campaign.total('ks')} faults armed, {campaign.total('fired')} came", flush=True)
    wrong = [line["wrong"] for line in campaign.lines if line["wrong"]]
    armed, fired = campaign.total("ks"), campaign.total("fired")
    return report([
        (f"{armed} faults, {campaign.total('labels')} labels acknowledged: no crash, no false 2xx, 503 or 507 otherwise, back "
         f"within {campaign.total('back', max):.1f} s ({BACK_SECONDS}){': ' + str(wrong[:5]) if wrong else ''}", not wrong),
        (f"{fired} of {armed} faults came", fired == armed or (bool(wrong) and fired > 0))])


if __name__ == "__main__":
    sys.exit(main())
