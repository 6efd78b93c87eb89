#!/usr/bin/env python3
"""kill -9 at random moments under load: what was acknowledged is there, once, and the server is back at once.

    kill9.py --binary build/annotmixd [--cycles 100] [--seed N] [--log FILE] [--mutant]

Every cycle: clients send single labels (some with an Idempotency-Key), NDJSON bulks and instances, a training run is
started, the server is killed. After the restart everything that is new in the change feed is compared with what was sent:
acknowledged and not there = lost; there twice = duplicated; there and never sent = invented. Requests without an answer are
sent again with the same key. At the end the whole feed is read once more, the counters are compared with it and SQLite
checks the file. Note that kill -9 does not test the disk's cache (it survives); that is synchronous=FULL's task.
"""
import argparse
import contextlib
import http.client
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from campaign import Campaign, report
from control import MUTANTS, Control
from server import Server

CLASSES = ["red", "green", "blue"]
N_INSTANCES = 300
N_CLIENTS = 6
READY_SECONDS = 2.0
CYCLES_PER_FILE = 100


class Ledger:
    """What was sent, what was acknowledged, what has been seen in the change feed."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counter = 0
        self.sent, self.acked, self.unknown = {}, set(), []
        self.seen, self.last_seq, self.duplicated = {}, 0, 0

    def new_label(self, rng):
        """A label that was never sent: its annotator is new."""
        with self.lock:
            self.counter += 1
            label = {"instance": f"i{rng.randrange(N_INSTANCES)}", "annotator": f"a{self.counter}", "class": rng.choice(CLASSES)}
            self.sent[label["annotator"]] = (label["instance"], label["class"])
        return label

    def ack(self, labels):
        with self.lock:
            self.acked.update(label["annotator"] for label in labels)


def client(server, ledger, rng, stop):
    """Sends until the server is gone. One request at a time, so at most one has no answer."""
    connection = server.connection()
    while not stop.is_set():
        kind = rng.random()
        labels = [ledger.new_label(rng) for _ in range(1 if kind < 0.9 else rng.randrange(2, 400))]
        headers = {}
        if len(labels) == 1:
            body = dict(labels[0])
            if kind < 0.3:
                headers["Idempotency-Key"] = "key-" + labels[0]["annotator"]
            media = "application/json"
        else:
            body = "".join(f'{{"instance":"{v["instance"]}","annotator":"{v["annotator"]}","class":"{v["class"]}"}}\n' for v in labels)
            media = "application/x-ndjson"
        try:
            status, answer = server.call("POST", "/v1/projects/k/labels", body, media, headers, connection)
        except (OSError, http.client.HTTPException):
            if headers:
                with ledger.lock:
                    ledger.unknown.append((labels, headers))
            return
        if status == 503:
            continue
        if not 200 <= status < 300 or (len(labels) > 1 and answer["accepted"] != len(labels)):
            raise RuntimeError(f"unexpected answer {status}: {answer}")
        ledger.ack(labels)


def read_feed(server, ledger, after):
    """Goes through the change feed from `after` on; every row must be one that was sent, and new."""
    connection = server.connection()
    cursor = None
    while True:
        path = f"/v1/projects/k/labels?after_seq={after}&limit=1000" + (f"&cursor={cursor}" if cursor else "")
        page = server.must("GET", path, connection=connection)
        for item in page["items"]:
            if item["seq"] <= ledger.last_seq or item["annotator"] in ledger.seen:
                ledger.duplicated += 1
            ledger.last_seq = item["seq"]
            ledger.seen[item["annotator"]] = (item["instance"], item["class"])
        cursor = page["next_cursor"]
        if cursor is None:
            return


def resend_unknown(server, ledger):
    """The same key again: made now, or replayed; either way once."""
    pending, ledger.unknown = ledger.unknown, []
    for labels, headers in pending:
        status, answer = server.call("POST", "/v1/projects/k/labels", dict(labels[0]), headers=headers)
        if status not in (200, 201):
            raise RuntimeError(f"a repeated request with its key: {status} {answer}")
        ledger.ack(labels)


@contextlib.contextmanager
def clients_at_work(server, ledger, rng, n):
    """n clients send labels meanwhile; gives the list of what went wrong for them, complete at the end."""
    stop = threading.Event()
    failures = []

    def guarded(seed):
        try:
            client(server, ledger, random.Random(seed), stop)
        except RuntimeError as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(rng.random(),)) for _ in range(n)]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def cycle(server, ledger, rng):
    with clients_at_work(server, ledger, rng, N_CLIENTS) as failures:
        try:
            server.call("POST", "/v1/projects/k/training-runs", {"settings": {"epochs": 50, "hidden": [64]}})
            server.call("POST", "/v1/projects/k/instances", {"instances": [
                {"id": f"i{rng.randrange(N_INSTANCES)}", "features": [rng.random() for _ in range(8)]}]})
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(rng.uniform(0.02, 0.5))  # the random moment itself, not a wait for anything
        server.kill()
    if failures:
        raise failures[0]


def check_file(db):
    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True)
    result = connection.execute("PRAGMA integrity_check").fetchall()
    broken = connection.execute("PRAGMA foreign_key_check").fetchall()
    connection.close()
    return result == [("ok",)] and not broken


def one_file(binary, cycles, rng, control=None):
    """So many kills of one database; returns the figures. control: once it is under way, it answers before COMMIT."""
    environment = control.environment if control else None
    ledger, ready, cpu = Ledger(), [0.0], [0.0]
    with tempfile.TemporaryDirectory(prefix="annotmix-kill9-") as folder:
        db = Path(folder) / "kill9.db"
        with open(Path(folder) / "log", "wb") as log:
            server = Server(binary, db, log=log, environment=environment)
            server.must("POST", "/v1/projects", {"name": "k", "classes": CLASSES, "feature_dim": 8})
            server.must("POST", "/v1/projects/k/instances", {"instances": [
                {"id": f"i{i}", "features": [rng.random() for _ in range(8)]} for i in range(N_INSTANCES)]})
            if control:
                control.mutant = MUTANTS["early-answer"]
            for _ in range(cycles):
                cycle(server, ledger, rng)
                server = Server(binary, db, log=log, environment=environment)
                cpu.append(server.cpu_seconds())
                status, _ = server.call("GET", "/readyz")
                ready.append(server.seconds_to_ready if status == 200 else float("inf"))
                resend_unknown(server, ledger)
                read_feed(server, ledger, ledger.last_seq)
            # Once more from the beginning, as a client that has missed everything would.
            incremental, ledger.seen, ledger.last_seq = ledger.seen, {}, 0
            read_feed(server, ledger, 0)
            counts = server.must("GET", "/v1/projects/k")["counts"]
            try:
                end, _ = server.stop()
            except subprocess.TimeoutExpired:
                end = -1
        whole = check_file(db)
    return {
        "kills": cycles, "acked": len(ledger.acked),
        "lost": sum(ledger.seen.get(a) != ledger.sent[a] for a in ledger.acked),
        "invented": sum(ledger.sent.get(a) != what for a, what in ledger.seen.items()),
        "duplicated": ledger.duplicated, "ready": round(max(ready), 3), "cpu": max(cpu), "slow": sum(r >= READY_SECONDS for r in ready), "whole": int(whole),
        "agree": int(incremental == ledger.seen and counts["labels"] == len(ledger.seen)), "ended": int(end == 0),
    }


def run_mutant(binary, cycles, rng):
    """The program that answers before COMMIT must be found out."""
    with tempfile.TemporaryDirectory(prefix="annotmix-kill9-") as folder:
        figures = one_file(binary, cycles, rng, Control(Path(folder) / "control"))
    return report([(f"it answers before COMMIT, and the test notices: {figures['lost']} of {figures['acked']} acknowledged "
                    f"labels lost in {cycles} kills", figures["lost"] > 0)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--log", help="goes on where a run with the same log was stopped")
    parser.add_argument("--mutant", action="store_true", help="the fault-injecting build answers before COMMIT; must fail")
    arguments = parser.parse_args()
    campaign = Campaign(arguments.log, arguments.seed)
    print(f"kill9: {arguments.cycles} cycles, --seed {campaign.seed}", flush=True)
    if arguments.mutant:
        return run_mutant(arguments.binary, arguments.cycles, random.Random(campaign.seed))
    for number, rng in campaign.pieces(-(-arguments.cycles // CYCLES_PER_FILE)):
        campaign.finish(number, **one_file(arguments.binary, min(CYCLES_PER_FILE, arguments.cycles - number * CYCLES_PER_FILE), rng))
        print(f"  {campaign.total('kills')} kills, {campaign.total('acked')} acknowledged, "
              f"ready in at most {campaign.total('ready', max):.2f} s", flush=True)
    total, ready = campaign.total, campaign.total("ready", max)
    return report([
        (f"{total('kills')} kills: {total('lost')} of {total('acked')} acknowledged labels lost", total("lost") == 0),
        (f"{total('duplicated')} labels duplicated", total("duplicated") == 0),
        (f"{total('invented')} labels invented", total("invented") == 0),
        ("the feed read step by step, the feed read at once and the counters agree", total("agree", min) == 1),
        ("SQLite's integrity_check and foreign_key_check are content", total("whole", min) == 1),
        (f"ready again in {ready:.2f} s at most (below {READY_SECONDS:.0f} s; {total('slow')} not), of them {total('cpu', max):.2f} s "
         "of CPU at most", ready < READY_SECONDS),
        ("SIGTERM ends it with status 0", total("ended", min) == 1)])


if __name__ == "__main__":
    sys.exit(main())
