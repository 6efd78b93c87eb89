"""Benchmark parts of training. run.py has the harness."""
import json
import os
import subprocess


def data(bench):
    shared = bench.root.parent / "shared/data/music-genres"
    return shared if shared.is_dir() else bench.root / "tests/data/digits"


def fit(bench, seed):
    out = subprocess.run([bench.binary, "fit", str(data(bench)), "--seed", str(seed), "--json"], check=True, capture_output=True,
                         text=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}).stdout
    return json.loads(out.strip().split("\n")[-1])


def part_train(bench):
    """training on one thread: labels of all steps by seconds of the step loop"""
    for n in range(bench.rounds):
        bench.add(f"fit of {data(bench).name}, one thread", "labels/s", fit(bench, n + 1)["labels_per_second"])
