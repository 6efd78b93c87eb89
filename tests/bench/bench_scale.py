"""Benchmark parts of scale: cost per label as a project grows, memory, start, training and exports there; what a large run
says it needs against what it takes. run.py has the harness. ANNOTMIX_BENCH_SCALE=0.01 runs the same on a hundredth of the rows (no figure of it counts)."""
import os
import re
import shutil
import statistics
import subprocess
import threading
import time

from bench_store import DIM, npy, post, rows_of

SCALE = float(os.environ.get("ANNOTMIX_BENCH_SCALE", "1"))
INSTANCES = int(1_000_000 * SCALE)
PER = 10          # labels of an instance
ANNOTATORS = 500
SMALL = 10_000    # labels of a small project


def csv(bench, first, count, prefix):
    """Labels first .. first + count in order of instances, ten each, of annotators that move on."""
    def line(n):
        n += first
        return ("task,worker,label\n" if n == first else "") + \
            f"{prefix}{n // PER},a{(n // PER * 7 + n % PER * 41) % ANNOTATORS},c{n % 10}\n"
    return bench.lines("labels", count, line)


def label(bench, server, project, first, count, prefix):
    """Seconds of server CPU and of the clock a label."""
    answer, seconds, cpu = post(bench, server, f"/v1/projects/{project}/labels", csv(bench, first, count, prefix), "text/csv")
    assert answer["created"] == count, answer
    return cpu / count, seconds / count


def page_times(server, paths, rounds=300):
    """Median milliseconds of a GET of each path, the paths in turn over one connection each."""
    times, connections = {path: [] for path in paths}, {path: server.connection() for path in paths}
    for _ in range(rounds):
        for path in paths:
            start = time.perf_counter()
            status, _ = server.call("GET", path, connection=connections[path])
            times[path].append((time.perf_counter() - start) * 1e3)
            assert status == 200, path
    return [statistics.median(times[path]) for path in paths]


class Peak:
    """The most resident memory while a block runs, in MiB."""

    def __init__(self, server):
        self.server, self.most, self.done = server, 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.done.wait(0.05):
            self.most = max(self.most, self.server.memory_kib() / 1024)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def export_labels(bench, server, total):
    """`annotmixd export` beside the running server: instances and labels as CSV files; rate of all rows, its own memory."""
    folder = bench.folder / "export"
    start = time.monotonic()
    process = subprocess.Popen([bench.binary, "export", "b", str(folder), "--db", str(server.db)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    seconds = time.monotonic() - start
    assert status == 0, status
    with open(folder / "labels.csv", "rb") as out:
        lines = sum(1 for _ in out)
    assert lines == total + 1, (lines, total)
    bench.add(f"export of {INSTANCES:,} instances and {total:,} labels", "rows/s", (total + INSTANCES) / seconds)
    bench.add("export: peak resident memory", "MiB", usage.ru_maxrss / 1024, "< 64")
    shutil.rmtree(folder)


def export_predictions(bench, server):
    """Every prediction as one CSV stream."""
    before, path, out = server.memory_kib() / 1024, "/v1/projects/b/predictions", bench.folder / "predictions.csv"
    with Peak(server) as peak:
        start = time.monotonic()
        subprocess.run(["curl", "-sS", "--fail", "-H", "Accept: text/csv", "-o", str(out), server.url + path], check=True)
        seconds = time.monotonic() - start
    with open(out, "rb") as lines:
        assert sum(1 for _ in lines) == INSTANCES + 1
    out.unlink()
    bench.add(f"export of {INSTANCES:,} predictions as CSV", "rows/s", INSTANCES / seconds, ">= 200000")
    bench.add("export of predictions: resident memory moves by", "MiB", peak.most - before, "< 64")


def part_scale(bench):
    """10,000,000 labels on 1,000,000 instances of 384 features: cost per label, list pages, memory, start, training, exports"""
    _, binary = rows_of(bench, 97)
    server = bench.server("scale")
    classes = [f"c{k}" for k in range(10)]
    server.must("POST", "/v1/projects", {"name": "b", "classes": classes, "feature_dim": DIM})
    step = max(INSTANCES // 10, 1)
    for at in range(0, INSTANCES, step):
        answer, seconds, _ = post(bench, server, f"/v1/projects/b/instances?id_prefix=n{at // step}-", npy(bench, step, lambda n: binary[n % 97]),
                                  "application/x-npy")
        assert answer["created"] == step, answer
        bench.add("npy instances while the project grows", "MB/s", step * DIM * 4 / 1e6 / seconds)
    total = INSTANCES * PER
    big = []
    for k in range(10):  # names are n0-0, n0-1, ...: each tenth of the instances with its labels
        big.append(label(bench, server, "b", 0, step * PER, f"n{k}-"))
    # Small projects of the same form, in the same file.
    small = []
    for k in range(20):
        server.must("POST", "/v1/projects", {"name": f"s{k}", "classes": classes, "feature_dim": 0})
        server.must("POST", f"/v1/projects/s{k}/instances", "".join(f'{{"id":"n{i}"}}\n' for i in range(SMALL // PER)),
                    media_type="application/x-ndjson")
        small.append(label(bench, server, f"s{k}", 0, SMALL, "n"))
    cpu_small, cpu_big = (statistics.mean(x[0] for x in rows) * 1e6 for rows in (small, big[-2:]))
    bench.add("server CPU per label of a project of 10,000", "us", cpu_small)
    bench.add("server CPU per label of the last million of 10,000,000", "us", cpu_big)
    bench.add("cost per label at 10,000,000 labels against 10,000", "x", cpu_big / cpu_small, "<= 1.5")
    bench.add("labels at 10,000,000", "1/s", 1 / statistics.mean(x[1] for x in big[-2:]))
    # An annotator has 20 labels in a small project: the pages have as many rows on both sides.
    for what in ("labels?limit=100", "instances?limit=100", "labels?limit=20&annotator=a41", "annotators?limit=100"):
        a, b = page_times(server, [f"/v1/projects/s0/{what}", f"/v1/projects/b/{what}"])
        bench.add(f"page {what} of the large project against a small one", "x", b / a, "<= 1.2")
    bench.add("resident memory with 10M labels and 1M instances", "MiB", server.memory_kib() / 1024, "< 200")
    export_labels(bench, server, total)
    server.stop()
    server = bench.server("scale")
    bench.add("start to ready with that database", "s", server.seconds_to_ready, "< 2")
    bench.add("database", "MiB", server.db.stat().st_size / 2**20)
    with Peak(server) as peak:
        start = time.monotonic()
        bench.train(server, epochs=1, hidden=[128])
        bench.add("training run of one epoch there", "s", time.monotonic() - start)
    bench.add("resident memory while training", "MiB", peak.most, "< 4096")
    export_predictions(bench, server)
    bench.add("resident memory after training", "MiB", server.memory_kib() / 1024)
    server.stop()


STEPS_SECONDS = 60  # of training, when that long is enough: everything is allocated by the first step


def start_run(server, project, settings):
    """(number of the run, None), or (None, why it was refused)."""
    status, answer = server.call("POST", f"/v1/projects/{project}/training-runs", {"settings": settings})
    return (answer["id"], None) if status == 202 else (None, answer["detail"])


def run_state(server, project, run, wait=20):
    return server.must("GET", f"/v1/projects/{project}/training-runs/{run}?wait={wait}")


def estimate(bench, name, project, settings):
    """MiB that the run says it needs: the limit is raised until the sum of all, and not one part of it alone, is what it lacks."""
    limit = 1
    while True:
        server = bench.server(name, "--run-memory", f"{limit}M")
        run, why = start_run(server, project, settings)
        state = {"state": "refused", "error": why} if run is None else {"state": "queued"}
        while state["state"] in ("queued", "running"):
            state = run_state(server, project, run)
        server.stop()
        if state["state"] == "succeeded":  # the parts are so unlike that the larger is as good as the sum
            return limit
        needs = int(re.search(r"needs? (?:at least )?(\d+) MiB", state["error"]).group(1))
        if state["error"].startswith("The run needs ") and " at least " not in state["error"]:
            return needs
        assert needs >= limit, state
        limit = needs + 1


def against_estimate(bench, name, project, settings, whole):
    """The most resident memory that a run adds, in its first steps or (whole) to its end, beside what it says it needs."""
    needs = estimate(bench, name, project, settings)
    server = bench.server(name, "--run-memory", f"{needs}M")
    before = server.memory_kib() / 1024
    with Peak(server) as peak:
        run, why = start_run(server, project, settings)
        assert run is not None, why
        began, state = None, {"state": "queued"}
        while state["state"] in ("queued", "running") and (whole or began is None or time.monotonic() - began < STEPS_SECONDS):
            state = run_state(server, project, run, 5)
            if began is None and state["state"] == "running" and (state.get("progress") or {}).get("labels_per_second"):
                began = time.monotonic()
        if state["state"] == "running":
            server.must("POST", f"/v1/projects/{project}/training-runs/{run}/cancel")
            while state["state"] == "running":
                state = run_state(server, project, run)
        assert state["state"] in ("succeeded", "cancelled"), state
    server.stop()
    what = f"{'whole run' if whole else 'first steps'}, {name}"
    bench.add(f"{what}: memory it says it needs", "MiB", needs)
    bench.add(f"{what}: most it takes", "MiB", peak.most - before)
    bench.add(f"{what}: taken of what was said", "x", (peak.most - before) / needs, "<= 1")


def fill(bench, name, dim, classes, annotators, instances, per):
    """A project p: per labels an instance, of annotators in turn."""
    _, binary = rows_of(bench, 97, dim)
    server = bench.server(name)
    server.must("POST", "/v1/projects", {"name": "p", "classes": [f"c{k}" for k in range(classes)], "feature_dim": dim})
    pieces = 10
    step = max(instances // pieces, 1)
    for k in range(pieces):
        answer, *_ = post(bench, server, f"/v1/projects/p/instances?id_prefix=n{k}-", npy(bench, step, lambda n: binary[n % 97], dim), "application/x-npy")
        assert answer["created"] == step, answer
        path = bench.lines("labels", step * per, lambda n: ("task,worker,label\n" if n == 0 else "") +
                           f"n{k}-{n // per},a{(k * step * per + n) % annotators},c{(n // per + n % 3) % classes}\n")
        answer, *_ = post(bench, server, "/v1/projects/p/labels", path, "text/csv")
        assert answer["created"] == step * per, answer
    server.stop()


def part_memory(bench):
    """what a run says it needs against what it takes: 1,000 classes, 100,000 annotators, 1,000,000 instances x 768, 10,000,000
    labels in the first steps; a smaller one to its end"""
    fill(bench, "memory", 768, max(int(1000 * min(SCALE * 10, 1)), 2), int(100_000 * SCALE), INSTANCES, PER)
    against_estimate(bench, "memory", "p", {"epochs": 1}, False)
    for end in ("", "-wal", "-shm"):
        (bench.folder / f"memory.db{end}").unlink(missing_ok=True)
    fill(bench, "many", 16, 200, int(100_000 * SCALE), int(10_000 * SCALE), PER)
    against_estimate(bench, "many", "p", {"epochs": 1, "hidden": [32], "annotator_embedding": 8}, True)
