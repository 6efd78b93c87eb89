#!/usr/bin/env python3
"""Measures annotmixd on this machine and prints one table. `make bench` runs it.

    run.py --binary build/annotmixd [--out build/bench.json] [--rounds 3] [--seconds 5] [PART]...

PART (default: all but compare): memory labels predict bulk body train, kill (100 kill -9 cycles), compare (training against
tests/bench/train_torch.py, alternating; needs TORCH_PYTHON, a python with torch). Every figure is measured --rounds times;
the table has minimum, median and maximum, the JSON file every value. Load generator and server share the machine's cores:
the figures are what both together reach. Traffic goes to the loopback address only and ends by itself.
"""
import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "fault"))
from server import Server  # noqa: E402  (the path must be set first)

D, C, N, A = 124, 10, 1000, 42  # features, classes, instances, annotators of the made-up project
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}


class Bench:
    def __init__(self, arguments):
        self.binary, self.rounds, self.seconds = arguments.binary, arguments.rounds, arguments.seconds
        self.figures = {}
        self.rng = random.Random(7)
        self.folder = Path(tempfile.mkdtemp(prefix="annotmix-bench-", dir=arguments.tmp))

    def add(self, name, unit, value, target=""):
        figure = self.figures.setdefault(name, {"unit": unit, "target": target, "values": []})
        figure["values"].append(value)
        print(f"  {name}: {value:,.4g} {unit}", flush=True)

    # ---- helpers ---------------------------------------------------------------------------------------------------
    def server(self, name, *flags):
        self.log = open(self.folder / (name + ".log"), "wb")
        return Server(self.binary, self.folder / (name + ".db"), "--log-level", "warn", *flags, log=self.log)

    def features(self):
        return [round(self.rng.gauss(0, 1), 4) for _ in range(D)]

    def project(self, server, labels=3):
        """A project of N instances with D features; class and features belong together, so that training has work."""
        server.must("POST", "/v1/projects", {"name": "b", "classes": [f"c{k}" for k in range(C)], "feature_dim": D})
        centres = [self.features() for _ in range(C)]
        lines = []
        for i in range(N):
            k = i % C
            row = {"id": f"i{i}", "features": [round(m + self.rng.gauss(0, 1), 4) for m in centres[k]], "labels": []}
            for a in self.rng.sample(range(A), labels):
                given = k if self.rng.random() < 0.7 else self.rng.randrange(C)
                row["labels"].append({"annotator": f"a{a}", "class": f"c{given}"})
            lines.append(json.dumps(row))
        server.must("POST", "/v1/projects/b/instances", "\n".join(lines) + "\n", media_type="application/x-ndjson")

    def train(self, server, wait=True, **settings):
        run = server.must("POST", "/v1/projects/b/training-runs", {"settings": settings})["id"]
        while wait:
            state = server.must("GET", f"/v1/projects/b/training-runs/{run}?wait=55")
            if state["state"] not in ("queued", "running"):
                assert state["state"] == "succeeded", state
                break
        return run

    def wrk(self, server, script, path, connections, **environment):
        """(requests/s, p50 ms, p99 ms, answers that were not 2xx, socket errors); adds the server's own CPU time a request,
        which other load on the machine hardly changes"""
        before = server.cpu_seconds()
        threads = min(2, connections)
        out = subprocess.run(["wrk", "-t", str(threads), "-c", str(connections), "-d", f"{self.seconds}s", "--timeout", "10s",
                              "--latency", "-s", str(HERE / script), server.url + path], check=True, text=True,
                             capture_output=True, env={**os.environ, **environment}).stdout
        total = int(re.search(r"(\d+) requests in", out).group(1))
        self.add(f"{path.rsplit('/', 1)[1]}, {connections} connections: server CPU", "us", (server.cpu_seconds() - before) / total * 1e6)
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
        latency = {p: float(v) * UNITS[u] for p, v, u in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)", out, re.M)}
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
        return rate, latency["50"], latency["99"], int(bad.group(1)) if bad else 0, sum(map(int, errors.groups())) if errors else 0

    def upload(self, server, path, source):
        """Streams a file, or the lines of a generator, as one NDJSON body with curl; returns (answer, seconds)."""
        command = ["curl", "-sS", "--fail-with-body", "-X", "POST", "-H", "Content-Type: application/x-ndjson", "-H", "Expect:",
                   "-T", "-" if callable(source) else str(source), server.url + path]
        start = time.monotonic()
        curl = subprocess.Popen(command, stdin=subprocess.PIPE if callable(source) else subprocess.DEVNULL, stdout=subprocess.PIPE)
        if callable(source):
            for piece in source():
                curl.stdin.write(piece)
            curl.stdin.close()
        answer = curl.stdout.read()
        if curl.wait() != 0:
            raise RuntimeError(f"curl {path}: {answer[:300]!r}")
        return json.loads(answer), time.monotonic() - start

    # ---- parts -----------------------------------------------------------------------------------------------------
    def part_memory(self):
        """resident memory with an empty database, and the time to get ready"""
        for n in range(self.rounds):
            server = self.server(f"empty{n}")
            server.must("GET", "/v1/")
            self.add("idle resident memory, empty database", "MiB", server.memory_kib() / 1024, "< 20")
            self.add("start to ready, empty database", "ms", server.seconds_to_ready * 1000)
            server.stop()

    def part_labels(self):
        """single labels, every one committed before its answer"""
        server = self.server("labels")
        self.project(server, labels=0)
        for connections, rate_target, p99_target in ((64, ">= 10000", ""), (1, "", "< 10")):
            for n in range(self.rounds):
                before = server.must("GET", "/v1/projects/b")["counts"]["labels"]
                rate, p50, p99, bad, errors = self.wrk(server, "post_labels.lua", "/v1/projects/b/labels", connections,
                                                       RUN=f"{connections}.{n}")
                stored = server.must("GET", "/v1/projects/b")["counts"]["labels"] - before
                name = f"single-label POST, {connections} connection{'s' * (connections > 1)}"
                self.add(name, "1/s", rate, rate_target)
                self.add(name + ", stored labels", "1/s", stored / self.seconds)
                self.add(name + ", p50", "ms", p50)
                self.add(name + ", p99", "ms", p99, p99_target)
                if bad or errors:
                    self.add(name + ", answers not 2xx or broken", "", bad + errors, "0")
        server.stop()

    def part_predict(self):
        """predictions of one instance as JSON, alone and while training runs"""
        server = self.server("predict", "--trainers", "1")
        self.project(server)
        self.train(server, epochs=10)
        body = self.folder / "predict.json"
        body.write_text(json.dumps({"instances": [{"features": self.features()}]}))
        for _ in range(self.rounds):
            rate, p50, p99, bad, errors = self.wrk(server, "post_body.lua", "/v1/projects/b/predict", 64, BODY=str(body))
            self.add("predict, one instance of 124 features as JSON, 64 connections", "1/s", rate, ">= 20000")
            self.add("predict, 64 connections, p50", "ms", p50)
            self.add("predict, 64 connections, p99", "ms", p99)
            if bad or errors:
                self.add("predict, answers not 2xx or broken", "", bad + errors, "0")
        run = self.train(server, wait=False, epochs=10000)
        while server.must("GET", f"/v1/projects/b/training-runs/{run}?wait=1")["state"] != "running":
            pass
        for _ in range(self.rounds):
            rate, _, p99, bad, errors = self.wrk(server, "post_body.lua", "/v1/projects/b/predict", 64, BODY=str(body),
                                                 PAUSE_MS="31")
            state = server.must("GET", f"/v1/projects/b/training-runs/{run}")["state"]
            assert state == "running", f"the training ended too early: {state}"
            self.add("predict while training runs: rate", "1/s", rate, "~ 2000")
            self.add("predict while training runs: p99", "ms", p99, "< 20")
            if bad or errors:
                self.add("predict while training, answers not 2xx or broken", "", bad + errors, "0")
        server.must("POST", f"/v1/projects/b/training-runs/{run}/cancel")
        server.stop()

    def part_bulk(self):
        """labels as NDJSON, a million a body, all new: instance by instance as exports come, then annotator by annotator"""
        per, count = 100, 1_000_000
        orders = {"by instance": lambda n: (n // per, n % per), "by annotator": lambda n: (n % (count // per), n // (count // per))}
        for order, place in orders.items():
            server = self.server("bulk " + order)
            server.must("POST", "/v1/projects", {"name": "b", "classes": [f"c{k}" for k in range(C)], "feature_dim": 0})
            self.upload(server, "/v1/projects/b/instances", self.lines("instances", count // per, lambda n: f'{{"id":"i{n}"}}\n'))
            for r in range(self.rounds):
                path = self.lines("labels", count, lambda n, r=r, place=place:
                                  '{"instance":"i%d","annotator":"r%d-%d","class":"c%d"}\n' % (place(n)[0], r, place(n)[1], n % C))
                before = server.cpu_seconds()
                answer, seconds = self.upload(server, "/v1/projects/b/labels", path)
                self.add(f"NDJSON labels {order}: server CPU", "us", (server.cpu_seconds() - before) / count * 1e6)
                assert answer["accepted"] == count and answer["created"] == count, answer
                self.add(f"NDJSON labels {order}", "1/s", count / seconds, ">= 150000" if order == "by instance" else "")
            self.add(f"resident memory after 3 bodies of 1M labels {order}", "MiB", server.memory_kib() / 1024)
            server.stop()

    def part_body(self):
        """one NDJSON body of 1 GB of instances; how far resident memory moves"""
        server = self.server("body")
        server.must("POST", "/v1/projects", {"name": "b", "classes": ["x", "y"], "feature_dim": D})
        row = json.dumps(self.features())
        total = 1_000_000_000
        peak, done = [0], threading.Event()

        def pieces():
            n = sent = 0
            while sent < total:
                piece = "".join(f'{{"id":"g{n + i}","features":{row}}}\n' for i in range(500)).encode()
                n += 500
                sent += len(piece)
                yield piece

        def watch():
            while not done.wait(0.05):
                peak[0] = max(peak[0], server.memory_kib())

        # A small body first, so that what any body needs (statements, buffers, page cache) is not counted as growth.
        self.upload(server, "/v1/projects/b/instances", self.lines("first", 5000, lambda n: f'{{"id":"w{n}","features":{row}}}\n'))
        before = server.memory_kib()
        watcher = threading.Thread(target=watch)
        watcher.start()
        answer, seconds = self.upload(server, "/v1/projects/b/instances", pieces)
        done.set()
        watcher.join()
        self.add("1 GB NDJSON body: resident memory moves by", "MiB", (peak[0] - before) / 1024, "< 64")
        self.add("1 GB NDJSON body: rate", "MB/s", total / 1e6 / seconds)
        self.add("1 GB NDJSON body: instances", "1/s", answer["accepted"] / seconds)
        server.stop()

    def lines(self, name, count, line):
        path = self.folder / (name + ".ndjson")
        with open(path, "w", encoding="ascii") as out:
            out.writelines(map(line, range(count)))
        return path

    def data(self):
        shared = ROOT.parent / "shared/data/music-genres"
        return shared if shared.is_dir() else ROOT / "tests/data/digits"

    def fit(self, seed):
        out = subprocess.run([self.binary, "fit", str(self.data()), "--seed", str(seed), "--json"], check=True, capture_output=True,
                             text=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}).stdout
        return json.loads(out.strip().split("\n")[-1])

    def part_train(self):
        """training on one thread: labels of all steps by seconds of the step loop"""
        for n in range(self.rounds):
            self.add(f"fit of {self.data().name}, one thread", "labels/s", self.fit(n + 1)["labels_per_second"])

    def part_compare(self):
        """ours and eager PyTorch in turns, one thread each"""
        python = os.environ.get("TORCH_PYTHON")
        if not python:
            print("  compare: skipped, TORCH_PYTHON does not name a python with torch")
            return
        for n in range(self.rounds):
            ours = self.fit(n + 1)["labels_per_second"]
            out = subprocess.run([python, str(HERE / "train_torch.py"), str(self.data()), "--threads", "1", "--seed", str(n + 1)],
                                 check=True, capture_output=True, text=True).stdout
            theirs = json.loads(out.strip().split("\n")[-1])["labels_per_second"]
            self.add(f"{self.data().name}: annotmixd", "labels/s", ours)
            self.add(f"{self.data().name}: PyTorch, eager, one thread", "labels/s", theirs)
            self.add(f"{self.data().name}: ratio", "x", ours / theirs, ">= 3")

    def part_kill(self):
        """100 kill -9 under load"""
        subprocess.run([sys.executable, str(HERE.parent / "fault/kill9.py"), "--binary", self.binary, "--cycles", "100"], check=True)

    # ---- the table -------------------------------------------------------------------------------------------------
    def table(self):
        print(f"\n{'figure':<66} {'unit':<9} {'min':>11} {'median':>11} {'max':>11}  target")
        for name, figure in self.figures.items():
            values = figure["values"]
            cells = [f"{v:>11,.0f}" if abs(v) >= 1000 else f"{v:>11.4g}" for v in (min(values), statistics.median(values), max(values))]
            print(f"{name:<66} {figure['unit']:<9} {' '.join(cells)}  {figure['target']}")


def main():
    parts = [n[5:] for n in dir(Bench) if n.startswith("part_")]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--tmp", default=None, help="folder for databases; a real disk, not a RAM disk")
    parser.add_argument("parts", nargs="*", metavar="PART", help=" ".join(parts))
    arguments = parser.parse_args()
    arguments.binary = str(Path(arguments.binary).resolve())
    for part in arguments.parts:
        if part not in parts:
            parser.error(f"unknown part {part}; there are: {' '.join(parts)}")
    bench = Bench(arguments)
    for part in arguments.parts or ["memory", "labels", "predict", "bulk", "body", "train", "compare", "kill"]:
        run = getattr(bench, "part_" + part)
        print(f"{part}: {run.__doc__}", flush=True)
        run()
    bench.table()
    if arguments.out:
        arguments.out.write_text(json.dumps(bench.figures, indent=1) + "\n")
    subprocess.run(["rm", "-rf", str(bench.folder)], check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
