#!/usr/bin/env python3
"""Predictions, labels and trainings together for a long time (T12): no failure, no growth.

    soak_mixed.py --binary build/annotmixd [--minutes 10] [--seconds N] [--clients 8] [--log FILE] [--figures]

Clients send predictions (70 %) and single labels (30 %) over kept connections while training runs follow each other. Every
ten seconds a line of figures goes to the log. Held at the end: no answer 5xx, no error, threads and descriptors as after the
warm-up (the first fifth), memory no more than a little above it. With --figures also the times of the release run: predict
p99 < 20 ms, label p99 < 50 ms.
"""
import argparse
import http.client
import json
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from campaign import report
from server import Server

CLASSES, DIM, N_INSTANCES = ["x", "y", "z"], 16, 500
BUCKETS = 400  # of times: 0.05 ms to about 60 s, each 3.5 % wider than the one before


class Times:
    """A histogram, so that a night's requests take no memory."""

    def __init__(self):
        self.counts, self.lock = [0] * BUCKETS, threading.Lock()

    def add(self, ms):
        bucket, edge = 0, 0.05
        while ms > edge and bucket < BUCKETS - 1:
            bucket, edge = bucket + 1, edge * 1.035
        with self.lock:
            self.counts[bucket] += 1

    def percentile(self, share):
        left = sum(self.counts) * share
        for bucket, n in enumerate(self.counts):
            left -= n
            if left <= 0:
                return 0.05 * 1.035**bucket
        return float("nan")


class Load:
    def __init__(self, server):
        self.server, self.stop = server, threading.Event()
        self.predict, self.label = Times(), Times()
        self.lock = threading.Lock()
        self.failed, self.statuses, self.runs = [], {}, 0

    def note(self, status, what):
        with self.lock:
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if status >= 400 and len(self.failed) < 20:
                self.failed.append(f"{what}: {status}")

    def client(self, number, rng):
        connection = self.server.connection()
        predict = json.dumps({"instances": [{"features": [rng.gauss(0, 1) for _ in range(DIM)]} for _ in range(4)]})
        while not self.stop.is_set():
            is_label = rng.random() < 0.3
            body = predict
            if is_label:
                body = json.dumps({"instance": f"i{rng.randrange(N_INSTANCES)}", "annotator": f"a{number}-{rng.randrange(2)}",
                                   "class": rng.choice(CLASSES)})
            begun = time.monotonic()
            try:
                status, _ = self.server.call("POST", "/v1/projects/p/" + ("labels" if is_label else "predict"), body,
                                             connection=connection)
            except (OSError, http.client.HTTPException) as error:
                if not self.stop.is_set():
                    self.note(599, repr(error))
                connection = self.server.connection()
                continue
            (self.label if is_label else self.predict).add((time.monotonic() - begun) * 1000)
            self.note(status, "label" if is_label else "predict")
        connection.close()

    def train(self):
        connection = self.server.connection()
        while not self.stop.is_set():
            try:
                status, run = self.server.call("POST", "/v1/projects/p/training-runs", {"settings": {"epochs": 20}},
                                               connection=connection)
                self.note(status, "train")
                state = "queued"
                while state in ("queued", "running") and not self.stop.is_set():
                    status, row = self.server.call("GET", f"/v1/projects/p/training-runs/{run['id']}?wait=5",
                                                   connection=connection)
                    self.note(status, "wait")
                    state = row["state"]
                if state == "failed":
                    self.note(598, f"training failed: {row}")
                self.runs += state == "succeeded"
            except (OSError, http.client.HTTPException, KeyError, TypeError) as error:
                if not self.stop.is_set():
                    self.note(597, repr(error))
                return


def usage(server):
    folder = f"/proc/{server.process.pid}"
    return {"rss_kib": server.memory_kib(), "threads": len(os.listdir(folder + "/task")), "fds": len(os.listdir(folder + "/fd"))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="build/annotmixd")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seconds", type=float, help="instead of minutes")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--log", type=Path)
    parser.add_argument("--figures", action="store_true")
    options = parser.parse_args()
    seconds = options.seconds or options.minutes * 60
    rng = random.Random(options.seed)
    print(f"seed {options.seed}, {seconds:.0f} s")
    if options.log:
        options.log.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="annotmix-soak-") as folder:
        server = Server(options.binary, Path(folder) / "a.db", "--trainers", "1")
        server.must("POST", "/v1/projects", {"name": "p", "classes": CLASSES, "feature_dim": DIM})
        server.must("POST", "/v1/projects/p/instances", {"instances": [
            {"id": f"i{i}", "features": [rng.gauss(0, 1) for _ in range(DIM)],
             "labels": [{"annotator": f"old{a}", "class": rng.choice(CLASSES)} for a in range(3)]} for i in range(N_INSTANCES)]})
        run = server.must("POST", "/v1/projects/p/training-runs", {"settings": {"epochs": 5}})["id"]
        while server.must("GET", f"/v1/projects/p/training-runs/{run}?wait=5")["state"] in ("queued", "running"):
            pass
        load = Load(server)
        threads = [threading.Thread(target=load.client, args=(i, random.Random(f"{options.seed} {i}")), daemon=True)
                   for i in range(options.clients)] + [threading.Thread(target=load.train, daemon=True)]
        for thread in threads:
            thread.start()
        begun, step = time.monotonic(), min(10, seconds / 10)
        while time.monotonic() < begun + seconds and server.process.poll() is None:
            time.sleep(step)
            rows.append({"seconds": round(time.monotonic() - begun, 1), **usage(server), "requests": sum(load.statuses.values()),
                         "runs": load.runs, "predict_p99_ms": round(load.predict.percentile(0.99), 2),
                         "label_p99_ms": round(load.label.percentile(0.99), 2), "failed": len(load.failed)})
            if options.log:
                with open(options.log, "a", encoding="ascii") as log:
                    log.write(json.dumps({"seed": options.seed, **rows[-1]}) + "\n")
        load.stop.set()
        for thread in threads:
            thread.join(60)
        status, took = server.stop()
    warm, last = rows[max(0, len(rows) // 5)], rows[-1]
    growth = (last["rss_kib"] - warm["rss_kib"]) / 1024
    hours = max((last["seconds"] - warm["seconds"]) / 3600, 1e-9)
    p99 = load.predict.percentile(0.99), load.label.percentile(0.99)
    print(f"{last['requests']} requests, {load.runs} trainings; predict p50 {load.predict.percentile(0.5):.1f}, p99 {p99[0]:.1f} "
          f"ms; label p50 {load.label.percentile(0.5):.1f}, p99 {p99[1]:.1f} ms")
    print(f"after the warm-up and at the end: {warm['rss_kib'] // 1024} and {last['rss_kib'] // 1024} MiB, {warm['threads']} and "
          f"{last['threads']} threads, {warm['fds']} and {last['fds']} descriptors; statuses {load.statuses}")
    for text in load.failed[:10]:
        print("  ", text)
    allowed = 32 + hours  # MiB: the allocator's unrest, then 1 MiB an hour
    checks = [
        ("no answer 4xx or 5xx, no error", not load.failed and last["requests"] > 100 and load.runs > 0),
        (f"memory grew by {growth:.1f} MiB, wanted <= {allowed:.0f}", growth <= allowed),
        ("threads and descriptors as after the warm-up",
         last["threads"] <= warm["threads"] + 2 and last["fds"] <= warm["fds"] + options.clients),
        (f"ended in order within {took:.1f} s", status == 0),
    ]
    if options.figures:
        checks += [(f"predict p99 {p99[0]:.1f} ms, wanted < 20", p99[0] < 20), (f"label p99 {p99[1]:.1f} ms, wanted < 50", p99[1] < 50)]
    return report(checks)


if __name__ == "__main__":
    sys.exit(main())
