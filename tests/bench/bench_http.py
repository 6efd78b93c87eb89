"""Benchmark parts of HTTP: resident memory, single labels, predictions, the export. run.py has the harness.

Rates are held against skeleton.c, an empty program with the daemon options and the pragmas of annotmixd, in turns in one run."""
import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from server import Server

PREDICT = "/v1/projects/b/predict"


class Skeleton(Server):
    """skeleton.c as a server: "answer", or "insert" with a database."""

    def __init__(self, bench, mode, name=None):
        binary = Path(bench.engine).with_name("skeleton")
        self.process = subprocess.Popen([binary, mode, *([bench.folder / (name + ".db")] if name else [])],
                                        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self.host, self.port = re.search(r"http://([0-9.]+):(\d+)", self.process.stdout.readline()).groups()
        self.url = f"http://{self.host}:{self.port}"


def check(bench, name, bad, errors):
    if bad or errors:
        bench.add(name + ": answers not 2xx or broken", "", bad + errors, "== 0")


def data(bench):
    shared = bench.root.parent / "shared/data/music-genres"
    return shared if shared.is_dir() else bench.root / "tests/data/digits"


def body_file(bench):
    path = bench.folder / "predict.json"
    path.write_text(json.dumps({"instances": [{"features": bench.features()}]}))
    return str(path)


def part_memory(bench):
    """resident memory with an empty database, and the time to get ready"""
    for n in range(bench.rounds):
        server = bench.server(f"empty{n}")
        server.must("GET", "/v1/")
        bench.add("idle resident memory, empty database", "MiB", server.memory_kib() / 1024, "< 20")
        bench.add("start to ready, empty database", "ms", server.seconds_to_ready * 1000, "< 50")
        server.stop()


def part_labels(bench):
    """single labels, every one new and committed before its answer. 64 connections: in turns with a skeleton that inserts one row a
    request into one table. One connection: in turns with a loop without HTTP, one transaction a label, of what SQLite has to write
    for it (`engine commits`: the label, its two index entries and two counters, five pages on the disk), and, without a target, with
    the same loop of one row in one table (`skeleton commits`, one page), which no label can reach"""
    server, skeleton = bench.server("labels"), Skeleton(bench, "insert", "skeleton")
    bench.project(server, labels=0)
    name = "single-label POST, 64 connections"
    for n in range(bench.rounds):
        before = server.must("GET", "/v1/projects/b")["counts"]["labels"]
        rate, p50, p99, bad, errors = bench.wrk(server, "post_labels.lua", "/v1/projects/b/labels", 64, RUN=f"64.{n}")
        stored = server.must("GET", "/v1/projects/b")["counts"]["labels"] - before
        limit = bench.wrk(skeleton, "post_labels.lua", "/insert-skeleton", 64, RUN=f"64.{n}")
        bench.pair(name, rate, limit[0], ">= 0.6", partner="skeleton")
        bench.add(name + ": stored labels", "1/s", stored / bench.seconds)
        bench.add(name + ": p50", "ms", p50)
        bench.add(name + ": p99", "ms", p99, "< 20")
        bench.add(name + ": p99 of the skeleton", "ms", limit[2])
        check(bench, name, bad, errors)
    skeleton.stop()
    name = "single-label POST, 1 connection"
    for n in range(bench.rounds):
        rate, p50, p99, bad, errors = bench.wrk(server, "post_labels.lua", "/v1/projects/b/labels", 1, RUN=f"1.{n}")
        rows = str(max(100, int(rate * bench.seconds)))
        loop = json.loads(subprocess.run([bench.engine, "commits", rows], check=True, text=True, capture_output=True,
                                         env={**os.environ, "TMPDIR": str(bench.folder)}).stdout)
        one = subprocess.run([Path(bench.engine).with_name("skeleton"), "commits", bench.folder / f"commits{n}.db", rows], check=True,
                             text=True, capture_output=True).stdout
        bench.pair(name, rate, loop["commits_per_second"], ">= 0.75", partner="bare loop of commits of the same rows")
        bench.add(name + ": bare loop of commits of one row in one table", "1/s", float(one))
        bench.add(name + ": p50", "ms", p50)
        bench.add(name + ": p99", "ms", p99)
        check(bench, name, bad, errors)
    server.stop()


def part_predict(bench):
    """predictions of one instance as JSON, in turns with a skeleton that only takes the body; batches of 4,096 as float32"""
    server, skeleton = bench.server("predict"), Skeleton(bench, "answer")
    bench.project(server)
    bench.train(server, epochs=10)
    body, rows = body_file(bench), 4096
    name = "predict, one JSON instance of 124 features, 64 connections"
    for _ in range(bench.rounds):
        rate, p50, p99, bad, errors = bench.wrk(server, "post_body.lua", PREDICT, 64, BODY=body)
        limit = bench.wrk(skeleton, "post_body.lua", "/answer-skeleton", 64, BODY=body)
        bench.pair(name, rate, limit[0], ">= 0.35", partner="skeleton")
        bench.add(name + ": rate", "1/s", rate, ">= 20000")
        bench.add(name + ": p50", "ms", p50)
        bench.add(name + ": p99", "ms", p99)
        check(bench, name, bad, errors)
    skeleton.stop()
    path = bench.folder / "rows.f32"
    path.write_bytes(b"".join(struct.pack(f"<{bench.FEATURES}f", *bench.features()) for _ in range(rows)))
    name = f"predict, float32 batches of {rows:,}"
    for _ in range(bench.rounds):
        before, start = server.cpu_seconds(), time.monotonic()
        rate, _, p99, bad, errors = bench.wrk(server, "post_body.lua", PREDICT, 2, cpu=False, BODY=str(path), TYPE="application/octet-stream",
                                              ACCEPT="application/octet-stream")
        seconds = time.monotonic() - start
        bench.add(name + ", 2 connections", "rows/s", rate * rows)
        bench.add(name + ": rows a second of the server's CPU", "rows/s", rate * rows * seconds / (server.cpu_seconds() - before), ">= 400000")
        check(bench, name, bad, errors)
    server.stop()


def run_of(server, project, number):
    return server.must("GET", f"/v1/projects/{project}/training-runs/{number}")


def part_busy(bench):
    """predictions at 2,000 requests/s while fits of two projects run; what the fits lose by it"""
    server = bench.server("busy", "--trainers", "2")
    bench.project(server)
    bench.train(server, epochs=10)
    subprocess.run([bench.binary, "import", "other", str(data(bench)), "--db", str(server.db)], check=True, stdout=subprocess.DEVNULL)
    runs = [(p, server.must("POST", f"/v1/projects/{p}/training-runs", {"settings": {"epochs": 10000}})["id"]) for p in ("b", "other")]
    for run in runs:
        while run_of(server, *run)["state"] == "queued":
            time.sleep(0.01)
    body = body_file(bench)
    name = "predict at about 2,000/s while two fits run"

    def speed(work):
        """Epochs a second, of each of the two."""
        before, start = [run_of(server, *run)["progress"]["epoch"] for run in runs], time.monotonic()
        work()
        seconds = time.monotonic() - start
        return [(run_of(server, *run)["progress"]["epoch"] - b) / seconds for run, b in zip(runs, before)]

    for _ in range(bench.rounds):
        alone = speed(lambda: time.sleep(bench.seconds))
        answers = []
        beside = speed(lambda: answers.append(bench.wrk(server, "post_body.lua", PREDICT, 64, cpu=False, BODY=body, PAUSE_MS="31")))
        rate, _, p99, bad, errors = answers[0]
        states = [run_of(server, *run)["state"] for run in runs]
        assert states == ["running", "running"], f"the training ended too early: {states}"
        bench.add(name + ": rate", "1/s", rate)
        bench.add(name + ": p99", "ms", p99, "<= 10")
        bench.add(name + ": pace of the fits, of that without requests", "x", sum(b / a for b, a in zip(beside, alone)) / 2, ">= 0.7")
        check(bench, name, bad, errors)
    for project, number in runs:
        server.must("POST", f"/v1/projects/{project}/training-runs/{number}/cancel")
    server.stop()


def npy(bench, count):
    """The header and rows of a float32 npy file, in pieces."""
    shape = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {bench.FEATURES}), }}"
    head = shape + " " * ((-11 - len(shape)) % 64) + "\n"
    yield b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode()
    block = b"".join(struct.pack(f"<{bench.FEATURES}f", *bench.features()) for _ in range(1000))
    for _ in range(count // 1000):
        yield block


def part_export(bench):
    """a million predictions as CSV, and how far resident memory moves"""
    count, peak, done = 1_000_000, [0], threading.Event()
    server = bench.server("export")
    bench.project(server)
    bench.train(server, epochs=10)
    connection = server.connection()
    connection.request("POST", "/v1/projects/b/instances?id_prefix=n", npy(bench, count), {"Content-Type": "application/x-npy"},
                       encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status < 300, answer.read()
    answer.read()
    connection.close()

    def export(query):
        return subprocess.run(["curl", "-sS", "--fail", "-H", "Accept: text/csv", "-o", "/dev/null", "-w", "%{size_download} %{time_total}",
                               server.url + "/v1/projects/b/predictions" + query], check=True, text=True, capture_output=True).stdout.split()

    def watch():
        while not done.wait(0.02):
            peak[0] = max(peak[0], server.memory_kib())

    export("?split=valid")  # what any export needs, so that it is not counted as growth
    before = server.memory_kib()
    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(bench.rounds):
        cpu = server.cpu_seconds()
        size, seconds = export("")
        assert int(size) > 50 * count, size
        bench.add("export of 1,000,000 predictions as CSV", "rows/s", (count + bench.INSTANCES) / float(seconds), ">= 200000")
        bench.add("export of 1,000,000 predictions as CSV: server CPU", "us/row", (server.cpu_seconds() - cpu) / count * 1e6)
    done.set()
    watcher.join()
    bench.add("export of 1,000,000 predictions as CSV: resident memory moves by", "MiB", (peak[0] - before) / 1024, "< 16")
    server.stop()


def part_active(bench):
    """50 epochs over HTTP, from the request to the active model, in turns with eager PyTorch's fit alone (TORCH_PYTHON)"""
    folder = data(bench)
    server = bench.server("active")
    subprocess.run([bench.binary, "import", "b", str(folder), "--db", str(server.db)], check=True, stdout=subprocess.DEVNULL)
    name, python = f"{folder.name}, 50 epochs, from request to active model", os.environ.get("TORCH_PYTHON")
    for n in range(bench.rounds):
        start = time.monotonic()
        run = bench.train(server, epochs=50)
        seconds = time.monotonic() - start
        state = server.must("GET", f"/v1/projects/b/training-runs/{run}")
        assert state["activated"] is True, state
        if not python:
            bench.add(name, "s", seconds)
            continue
        out = subprocess.run([python, str(bench.here / "train_torch.py"), str(folder), "--threads", "1", "--seed", str(n + 1)], check=True,
                             capture_output=True, text=True).stdout
        bench.pair(name, seconds, json.loads(out.strip().split("\n")[-1])["seconds"], ">= 5", unit="s", partner="PyTorch's fit alone",
                   inverse=True)
    if not python:
        print("  without PyTorch: TORCH_PYTHON does not name a python with torch", file=sys.stderr)
    server.stop()
