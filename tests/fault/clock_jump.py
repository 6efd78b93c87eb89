#!/usr/bin/env python3
"""The wall clock jumps in mid-run: a day back, a year ahead, and home again (needs the fault-injecting build).

    clock_jump.py --binary build/default/fault/annotmixd-fault [--seed N]

At each jump there are a half-sent body, an idle kept connection, a long poll, a training that runs, and a cursor half way
through a list. None of them may notice: deadlines are of the monotonic clock, the order is by sequence. A token's end is of
the wall clock: it is refused while the clock is past it and taken when it is not.
"""
import argparse
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from campaign import report
from control import Control
from server import Server

DAY_MS = 86400 * 1000
JUMPS = [("a day back", -DAY_MS), ("a year ahead", 365 * DAY_MS), ("home", 0)]
N_INSTANCES = 200


class Run:
    def __init__(self, server, rng, admin):
        self.server, self.rng, self.made, self.last_seq, self.admin = server, rng, 0, 0, admin
        self.feed = []

    def call(self, method, path, body=None, token=None, connection=None):
        return self.server.call(method, path, body, headers={"Authorization": f"Bearer {token or self.admin}"}, connection=connection)

    def label(self, connection=None):
        body = {"instance": f"i{self.made % N_INSTANCES}", "annotator": f"a{self.made}", "class": self.rng.choice("xyz")}
        self.made += 1
        return self.call("POST", "/v1/projects/c/labels", body, connection=connection)[0]

    def read_feed(self):
        """What came since the last time, by after_seq."""
        status, page = self.call("GET", f"/v1/projects/c/labels?after_seq={self.last_seq}&limit=1000")
        seqs = [item["seq"] for item in page["items"]] if status == 200 else [0]
        good = status == 200 and seqs == sorted(set(seqs)) and (not seqs or seqs[0] > self.last_seq)
        self.feed += seqs
        self.last_seq = seqs[-1] if seqs else self.last_seq
        return good


def half_a_label(run):
    body = json.dumps({"instance": "i0", "annotator": f"half{run.made}", "class": "x"}).encode()
    run.made += 1
    connection = run.server.connection()
    connection.putrequest("POST", "/v1/projects/c/labels")
    for name, value in (("Authorization", f"Bearer {run.admin}"), ("Content-Type", "application/json"),
                        ("Content-Length", str(len(body)))):
        connection.putheader(name, value)
    connection.endheaders(body[:20])
    return connection, body[20:]


def jump(run, control, name, shift, short, checks):
    idle = run.server.connection()
    before = run.label(idle)
    half, rest = half_a_label(run)
    page = run.call("GET", "/v1/projects/c/instances?limit=50")[1]
    _, training = run.call("POST", "/v1/projects/c/training-runs", {"settings": {"epochs": 3000, "hidden": [64]}})
    path, polled = f"/v1/projects/c/training-runs/{training['id']}", []
    begun = time.monotonic()
    poll = threading.Thread(target=lambda: polled.append((run.call("GET", path + "?wait=3"), time.monotonic() - begun)))
    poll.start()
    run.server.wait_until(lambda: run.call("GET", path)[1]["state"] != "queued")
    control.wall_shift_ms = shift
    time.sleep(0.3)  # time for whoever would fire
    statuses = [run.label() for _ in range(50)] + [run.label(idle)]
    half.send(rest)
    statuses.append(half.getresponse().status)
    poll.join(30)
    status, row = polled[0][0]
    second = run.call("GET", f"/v1/projects/c/instances?limit=50&cursor={page['next_cursor']}")
    token = run.call("GET", "/v1/projects/c", token=short)[0]
    state = run.call("POST", path + "/cancel")[0] if run.call("GET", path)[1]["state"] in ("queued", "running") else 202
    first_ids, second_ids = ({i["id"] for i in p["items"]} for p in (page, second[1]))
    checks += [
        (f"{name}: labels, an idle connection's and one half sent are taken {sorted(set(statuses) | {before})}",
         set(statuses) | {before} == {201}),
        (f"{name}: the feed goes on by seq", run.read_feed()),
        (f"{name}: a cursor goes on", second[0] == 200 and len(second_ids) == 50 and not first_ids & second_ids),
        (f"{name}: the long poll ended by its own time, {status} after {polled[0][1]:.1f} s; the training is {row['state']}",
         status == 200 and row["state"] in ("running", "succeeded") and (row["state"] == "succeeded" or polled[0][1] >= 2.9)),
        (f"{name}: cancelling {state}", state in (200, 202, 409)),
        (f"{name}: the token of an hour {token}", token == (401 if shift > 0 else 200)),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="build/default/fault/annotmixd-fault")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    rng, checks = random.Random(options.seed), []
    with tempfile.TemporaryDirectory(prefix="annotmix-clock-") as folder, open(Path(folder) / "log", "w+b") as log:
        control = Control(Path(folder) / "control")
        flags = ("--trainers", "1", "--backup-dir", folder + "/copies", "--backup-every", "1s", "--backup-keep", "3")
        server = Server(options.binary, Path(folder) / "a.db", *flags, log=log, environment=control.environment)
        try:
            admin = server.must("POST", "/v1/tokens", {"name": "root", "scopes": ["admin"]})["token"]
            run = Run(server, rng, admin)
            hour = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
            short = run.call("POST", "/v1/tokens", {"name": "short", "scopes": ["read"], "expires_at": hour})[1]["token"]
            run.call("POST", "/v1/projects", {"name": "c", "classes": ["x", "y", "z"], "feature_dim": 2})
            run.call("POST", "/v1/projects/c/instances", {"instances": [
                {"id": f"i{i}", "features": [rng.gauss(0, 1), rng.gauss(0, 1)],
                 "labels": [{"annotator": f"old{a}", "class": rng.choice("xyz")} for a in range(3)]} for i in range(N_INSTANCES)]})
            run.read_feed()
            for name, shift in JUMPS:
                jump(run, control, name, shift, short, checks)
            copies = len(list((Path(folder) / "copies").glob("*.db")))
            status, seconds = server.stop()
            server = Server(options.binary, Path(folder) / "a.db", log=log, environment=control.environment)
            run.server, run.last_seq, known, run.feed = server, 0, sorted(run.feed), []
            again = run.read_feed() and run.feed == known
            checks += [(f"a new start has the same {len(known)} changes", again and len(known) == 3 * N_INSTANCES + 53 * 3),
                       (f"{copies} backups kept", copies == 3),
                       (f"ended in order after {seconds:.1f} s", status == 0 and server.stop()[0] == 0)]
        finally:
            server.kill()
        text = (Path(folder) / "log").read_text(encoding="utf-8")
        if not all(good for _, good in checks):
            print(text[-3000:])
    return report(checks)


if __name__ == "__main__":
    sys.exit(main())
