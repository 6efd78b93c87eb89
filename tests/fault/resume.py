#!/usr/bin/env python3
"""The same model, byte for byte, whether a training run is left alone or the server is killed (kill -9) in the middle of it.

    resume.py --binary build/annotmixd [--times 20] [--seed N]

One project, one seed. The first run is left alone; every other run is killed at a random epoch, the server is started
again (the run is queued again and trained anew) and the SHA-256 of the model's file must be the first one's.
"""
import argparse
import hashlib
import http.client
import random
import sys
import tempfile
from pathlib import Path

from campaign import report
from server import Server

REQUEST = {"seed": 7, "settings": {"epochs": 60, "hidden": [64], "batch_size": 32}}
RUNS = "/v1/projects/d/training-runs"


def fill(server, rng):
    server.must("POST", "/v1/projects", {"name": "d", "classes": ["a", "b", "c"], "feature_dim": 16})
    rows = []
    for i in range(600):
        truth = i % 3
        labels = [{"annotator": f"p{p}", "class": "abc"[truth if rng.random() < 0.5 + p / 12 else rng.randrange(3)]}
                  for p in range(6) if rng.random() < 0.5]
        rows.append({"id": f"i{i}", "features": [rng.gauss(truth if j % 3 == truth else 0, 1) for j in range(16)], "labels": labels})
    for begin in range(0, 600, 200):
        server.must("POST", "/v1/projects/d/instances", {"instances": rows[begin:begin + 200]})


def finish(server, run):
    while True:
        row = server.must("GET", f"{RUNS}/{run}?wait=20")
        if row["finished_at"]:
            return row


def model_hash(server, run):
    connection = server.connection()
    connection.request("GET", f"/v1/projects/d/models/{run['model']}/file")
    data = connection.getresponse().read()
    if not data.startswith(b"AMXMODEL"):
        raise RuntimeError(f"no model file: {data[:60]!r}")
    return hashlib.sha256(data).hexdigest()


def wait_for_epoch(server, run, epoch):
    """Follows the run's events until this epoch has been told, or the run has ended."""
    connection = server.connection()
    connection.request("GET", f"{RUNS}/{run}/events")
    stream = connection.getresponse()
    for line in stream:
        if line.startswith(b"data:"):
            epoch -= 1
        if epoch <= 0 or b"finished_at" in line and b'"finished_at":null' not in line:
            break
    connection.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**9)
    rng = random.Random(seed)
    print(f"resume: {arguments.times} kills, --seed {seed}", flush=True)
    same = killed_in_time = clean = 0
    with tempfile.TemporaryDirectory(prefix="annotmix-resume-") as name:
        db = Path(name) / "resume.db"
        server = Server(arguments.binary, db)
        fill(server, rng)
        wanted = model_hash(server, finish(server, server.must("POST", RUNS, REQUEST)["id"]))
        for _ in range(arguments.times):
            run = server.must("POST", RUNS, REQUEST)["id"]
            try:
                wait_for_epoch(server, run, rng.randrange(1, 40))
            except (OSError, http.client.HTTPException):
                pass
            server.kill()
            server = Server(arguments.binary, db)
            row = finish(server, run)
            killed_in_time += row["attempts"] > 1 if "attempts" in row else 1
            same += row["state"] == "succeeded" and model_hash(server, row) == wanted
        clean = server.stop()[0] == 0
    checks = [(f"{same} of {arguments.times} models are the same bytes as the first, {wanted[:16]}...", same == arguments.times),
              (f"{killed_in_time} of {arguments.times} kills hit the training", killed_in_time > 0),
              ("SIGTERM ends the server well", clean)]
    return report(checks)


if __name__ == "__main__":
    sys.exit(main())
