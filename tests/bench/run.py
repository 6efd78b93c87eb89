#!/usr/bin/env python3
"""Measures annotmixd on this machine and prints one table. `make bench` runs all of it, `make bench-train` one group.

    run.py --binary build/annotmixd [--engine build/default/bench/engine] [--out build/bench.json] [--rounds 3]
           [--seconds 5] [PART or GROUP]...
    run.py --markdown build/bench.json      the table for README, from a file that an earlier run wrote

The groups are the files bench_*.py beside this one; every function part_NAME(bench) there is a part. A part measures --rounds
times and says so by bench.add (one figure) or bench.pair (ours and its limit or partner, measured in the same run in turns, and
their ratio with its target). The table has minimum, median and maximum; the JSON file has every value and is renewed after
each part. Load generator and server share the machine's cores: the figures are what both together reach. Traffic goes to the
loopback address only and ends by itself.
"""
import argparse
import importlib
import inspect
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "fault"))
from server import Server  # noqa: E402  (the path must be set first)

GROUPS = ("http", "store", "scale", "train")
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}


def verdict(target, value):
    """"ok", "short" or "" (no figure is promised); target is "", or one of < <= > >= == and a number, text may follow."""
    match = re.match(r"(<=|>=|<|>|==)\s*([\d.]+)", target)
    if not match:
        return ""
    sign, limit = match.group(1), float(match.group(2))
    good = {"<": value < limit, "<=": value <= limit, ">": value > limit, ">=": value >= limit, "==": value == limit}[sign]
    return "ok" if good else "short"


def show(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def three(figure):
    values = figure["values"]
    return min(values), statistics.median(values), max(values)


class Bench:
    FEATURES, CLASSES, INSTANCES, ANNOTATORS = 124, 10, 1000, 42  # of the made-up project

    def __init__(self, arguments):
        self.binary, self.engine = arguments.binary, arguments.engine
        self.rounds, self.seconds = arguments.rounds, arguments.seconds
        self.here, self.root = HERE, ROOT
        self.figures, self.servers = {}, []
        self.rng = random.Random(7)
        self.folder = Path(tempfile.mkdtemp(prefix="annotmix-bench-", dir=arguments.tmp))

    def add(self, name, unit, value, target=""):
        """One value of a figure. target: "" or for example ">= 10000"; the median is held against it."""
        figure = self.figures.setdefault(name, {"unit": unit, "target": target, "values": []})
        figure["values"].append(value)
        print(f"  {name}: {show(value)} {unit}", flush=True)

    def pair(self, name, ours, theirs, target="", *, unit="1/s", partner="limit", inverse=False):
        """Ours and theirs, both in `unit`, measured in turns in one run; the ratio ours / theirs is held against target.
        partner: what theirs is ("limit", "bare SQLite", "PyTorch"). inverse: theirs / ours, for times by which ours is faster."""
        self.add(name, unit, ours)
        self.add(f"{name}: {partner}", unit, theirs)
        ratio = theirs / ours if inverse else ours / theirs
        self.add(f"{name}: ratio to {partner}", "x", ratio, target)

    # ---- helpers ---------------------------------------------------------------------------------------------------
    def server(self, name, *flags):
        self.log = open(self.folder / (name + ".log"), "wb")
        self.servers.append(Server(self.binary, self.folder / (name + ".db"), "--log-level", "warn", *flags, log=self.log))
        return self.servers[-1]

    def features(self):
        return [round(self.rng.gauss(0, 1), 4) for _ in range(self.FEATURES)]

    def project(self, server, labels=3):
        """A project of N instances with D features; class and features belong together, so that training has work."""
        server.must("POST", "/v1/projects", {"name": "b", "classes": [f"c{k}" for k in range(self.CLASSES)], "feature_dim": self.FEATURES})
        centres = [self.features() for _ in range(self.CLASSES)]
        lines = []
        for i in range(self.INSTANCES):
            k = i % self.CLASSES
            row = {"id": f"i{i}", "features": [round(m + self.rng.gauss(0, 1), 4) for m in centres[k]], "labels": []}
            for a in self.rng.sample(range(self.ANNOTATORS), labels):
                given = k if self.rng.random() < 0.7 else self.rng.randrange(self.CLASSES)
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

    def wrk(self, server, script, path, connections, cpu=True, **environment):
        """(requests/s, p50 ms, p99 ms, answers that were not 2xx, socket errors); adds the server's own CPU time a request (cpu),
        which other load on the machine hardly changes"""
        before = server.cpu_seconds()
        threads = min(2, connections)
        out = subprocess.run(["wrk", "-t", str(threads), "-c", str(connections), "-d", f"{self.seconds}s", "--timeout", "10s",
                              "--latency", "-s", str(HERE / script), server.url + path], check=True, text=True,
                             capture_output=True, env={**os.environ, **environment}).stdout
        total = int(re.search(r"(\d+) requests in", out).group(1))
        if cpu:
            self.add(f"{path.rsplit('/', 1)[1]}, {connections} connections: server CPU", "us", (server.cpu_seconds() - before) / total * 1e6)
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
        latency = {p: float(v) * UNITS[u] for p, v, u in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)", out, re.M)}
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
        return rate, latency["50"], latency["99"], int(bad.group(1)) if bad else 0, sum(map(int, errors.groups())) if errors else 0

    def upload(self, server, path, source, media_type="application/x-ndjson"):
        """Streams a file, or the pieces of a generator, as one body with curl; returns (answer, seconds)."""
        command = ["curl", "-sS", "--fail-with-body", "-X", "POST", "-H", "Content-Type: " + media_type, "-H", "Expect:",
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

    def lines(self, name, count, line):
        path = self.folder / (name + ".ndjson")
        with open(path, "w", encoding="ascii") as out:
            out.writelines(map(line, range(count)))
        return path

    # ---- the table -------------------------------------------------------------------------------------------------
    def table(self):
        width = max([66, *map(len, self.figures)])
        print(f"\n{'figure':<{width}} {'unit':<9} {'min':>11} {'median':>11} {'max':>11}  target")
        for name, figure in self.figures.items():
            cells = " ".join(f"{show(v):>11}" for v in three(figure))
            print(f"{name:<{width}} {figure['unit']:<9} {cells}  {figure['target']} {verdict(figure['target'], three(figure)[1])}")

    def save(self, path):
        cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        about = {"machine": cpu.group(1) if cpu else platform.machine(), "cores": len(os.sched_getaffinity(0)),
                 "system": platform.platform(), "rounds": self.rounds, "load": os.getloadavg(), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        path.write_text(json.dumps({"about": about, "figures": self.figures}, indent=1) + "\n")


def markdown(path):
    """The README's table: figures with a target, the pairs' two sides folded into the line of their ratio."""
    saved = json.loads(path.read_text())
    figures, about = saved["figures"], saved["about"]
    print(f"{about['machine']}, {about['cores']} cores, {about['rounds']} rounds, median (least to most).\n")
    print("| what | measured | wanted | |\n|---|---|---|---|")
    for name, figure in figures.items():
        if not figure["target"]:
            continue
        low, middle, high = map(show, three(figure))
        text = f"{middle} ({low} to {high}) {figure['unit']}".replace(" x", " times")
        match = re.fullmatch(r"(.+): ratio to (.+)", name)
        if match and match.group(1) in figures:
            ours, theirs = (figures[n] for n in (match.group(1), f"{match.group(1)}: {match.group(2)}"))
            name = f"{match.group(1)}, against {match.group(2)}"
            text += f"; {show(three(ours)[1])} and {show(three(theirs)[1])} {ours['unit']}"
        print(f"| {name} | {text} | {figure['target']} | {verdict(figure['target'], three(figure)[1])} |")


def part_program(bench):
    """size of the program without debug symbols; start to ready on an empty folder"""
    stripped = bench.folder / "stripped"
    subprocess.run(["strip", "-o", stripped, bench.binary], check=True)
    bench.add("program, stripped", "MB", stripped.stat().st_size / 1e6, "< 3")
    for n in range(10):
        server = bench.server(f"start{n}")
        bench.add("start to ready on an empty folder", "ms", server.seconds_to_ready * 1000, "< 50")
        server.stop()


def part_kill(bench):
    """100 kill -9 under load"""
    subprocess.run([sys.executable, str(HERE.parent / "fault/kill9.py"), "--binary", bench.binary, "--cycles", "100"], check=True)


def find_parts():
    """{group: {part: function}}, in the order of the files."""
    found = {}
    for group in GROUPS:
        members = inspect.getmembers(importlib.import_module("bench_" + group), inspect.isfunction)
        members.sort(key=lambda m: m[1].__code__.co_firstlineno)
        found[group] = {name[5:]: function for name, function in members if name.startswith("part_")}
    found["whole"] = {"program": part_program, "kill": part_kill}
    return found


def choose(names, groups):
    """The parts of the given groups and parts, each once, in the order of the files; none given: all."""
    every = {name: function for parts in groups.values() for name, function in parts.items()}
    unknown = [n for n in names if n not in groups and n not in every]
    if unknown:
        raise SystemExit(f"unknown part {unknown[0]}; there are: {', '.join(f'{g} ({chr(32).join(p)})' for g, p in groups.items())}")
    wanted = {part for n in names for part in (groups[n] if n in groups else [n])} if names else set(every)
    return {name: function for name, function in every.items() if name in wanted}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary")
    parser.add_argument("--engine", help="the program of tests/bench/engine.c")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--tmp", default=None, help="folder for databases; a real disk, not a RAM disk")
    parser.add_argument("--markdown", type=Path, metavar="JSON", help="print the README's table of a saved run, measure nothing")
    parser.add_argument("parts", nargs="*", metavar="PART")
    arguments = parser.parse_args()
    if arguments.markdown:
        return markdown(arguments.markdown)
    if not arguments.binary:
        parser.error("--binary is wanted")
    parts = choose(arguments.parts, find_parts())
    arguments.binary = str(Path(arguments.binary).resolve())
    bench = Bench(arguments)
    try:
        for name, run in parts.items():
            print(f"{name}: {run.__doc__}", flush=True)
            run(bench)
            if arguments.out:
                bench.save(arguments.out)
    finally:
        bench.table()
        for server in bench.servers:  # only those that a part which failed has left
            if server.process.poll() is None:
                server.kill()
        subprocess.run(["rm", "-rf", str(bench.folder)], check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
