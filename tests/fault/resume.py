#!/usr/bin/env python3
"""The same model, byte for byte, whether a training run is left alone or the server is killed (kill -9) in the middle of it.

    resume.py --binary build/annotmixd [--times 20] [--seed N] [--log FILE]

One project, one seed. The first run is left alone; every other run is killed at a random epoch, the server is started
again (the run is queued again and trained anew) and the SHA-256 of the model's file must be the first one's.
--log FILE: goes on where a run with the same log was stopped.
"""
import argparse
import hashlib
import http.client
import random
import sys
import tempfile
from pathlib import Path

from campaign import Campaign, report
from server import Server

REQUEST = {"seed": 7, "settings": {"epochs": 60, "hidden": [64], "batch_size": 32}}
RUNS = "/v1/projects/d/training-runs"
KILLS_PER_FILE = 4


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


def one_file(binary, seed, times, rng):
    """The same data in a file of its own, so many kills; the hash of the first model and figures."""
    same = hit = 0
    with tempfile.TemporaryDirectory(prefix="annotmix-resume-") as name:
        db = Path(name) / "resume.db"
        server = Server(binary, db)
        fill(server, random.Random(seed))
        wanted = model_hash(server, finish(server, server.must("POST", RUNS, REQUEST)["id"]))
        for _ in range(times):
            run = server.must("POST", RUNS, REQUEST)["id"]
            try:
                wait_for_epoch(server, run, rng.randrange(1, 40))
            except (OSError, http.client.HTTPException):
                pass
            server.kill()
            server = Server(binary, db)
            row = finish(server, run)
            hit += row["attempts"] > 1 if "attempts" in row else 1
            same += row["state"] == "succeeded" and model_hash(server, row) == wanted
        ended = server.stop()[0] == 0
    return {"kills": times, "same": same, "hit": hit, "ended": int(ended), "model": wanted}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--log")
    arguments = parser.parse_args()
    campaign = Campaign(arguments.log, arguments.seed)
    print(f"resume: {arguments.times} kills, --seed {campaign.seed}", flush=True)
    for number, rng in campaign.pieces(-(-arguments.times // KILLS_PER_FILE)):
        times = min(KILLS_PER_FILE, arguments.times - number * KILLS_PER_FILE)
        campaign.finish(number, **one_file(arguments.binary, campaign.seed, times, rng))
        print(f"  {campaign.total('same')} of {campaign.total('kills')} the same", flush=True)
    total, models = campaign.total, {line["model"] for line in campaign.lines}
    return report([
        (f"{total('same')} of {total('kills')} models are the same bytes as the first, {min(models)[:16]}...",
         total("same") == total("kills") > 0 and len(models) == 1),
        (f"{total('hit')} of {total('kills')} kills hit the training", total("hit") > 0),
        ("SIGTERM ends the server well", total("ended", min) == 1)])


if __name__ == "__main__":
    sys.exit(main())
