"""Benchmark parts of training: ours against its limit and against PyTorch. run.py has the harness.

Shapes S1 to S5 are those of engine.c, which makes the data up and writes it for PyTorch too. PyTorch (train_torch.py) needs
TORCH_PYTHON, a python with torch 2.13; without it only ours is measured. In each round every variant of PyTorch and ours take
turns; the variant with the best median over all rounds is the partner. One thread is compared by CPU time, which on a quiet
machine is wall time and on a busy one the fairer measure; several threads by wall time.
"""
import json
import os
import statistics
import subprocess
import time

SHAPES = {"S1": dict(N=700, D=124, C=10, A=42, hidden=[256, 128], batch=64, epochs=60),
          "S2": dict(N=2000, D=16, C=26, A=20, hidden=[128], batch=64, epochs=40),
          "S3": dict(N=4000, D=384, C=10, A=60, hidden=[256, 128], batch=64, epochs=16),
          "S4": dict(N=4000, D=384, C=10, A=60, hidden=[256, 128], batch=512, epochs=16),
          "S5": dict(N=4000, D=384, C=100, A=500, hidden=[128], batch=64, epochs=4)}
ONE = {"S1": 6, "S2": 4.3, "S3": 5, "S4": 3, "S5": 1.9}  # times the best PyTorch on one thread
BOTH = {"S1": 6, "S2": 7, "S3": 9, "S4": 4.5, "S5": 1.9}  # the same with both cores on either side
VARIANTS = ("eager", "foreach", "flat", "compiled")
SECONDS = 2.0  # of one measurement of PyTorch, and whole epochs


def data(bench):
    shared = bench.root.parent / "shared/data/music-genres"
    return shared if shared.is_dir() else bench.root / "tests/data/digits"


def last_line(words, **environment):
    out = subprocess.run(list(map(str, words)), check=True, stdout=subprocess.PIPE, text=True,
                         env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment}).stdout
    return json.loads(out.strip().split("\n")[-1])


def engine(bench, *words):
    if not bench.engine:
        raise SystemExit("bench_train.py: --engine, the program of tests/bench/engine.c, is wanted")
    return last_line([bench.engine, *words])


class Torch:
    """train_torch.py --worker: one process per number of threads, so that compiled code is kept."""

    def __init__(self, bench, threads):
        count = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self.process = subprocess.Popen([os.environ["TORCH_PYTHON"], str(bench.here / "train_torch.py"), "--worker", "--threads",
                                         str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **count})

    def rates(self, path, shape, variant):
        order = dict(data=str(path), shape=shape, variant=variant, seconds=SECONDS)
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"train_torch.py ended with status {self.process.wait()}")
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def torch_is_there(part):
    if os.environ.get("TORCH_PYTHON"):
        return True
    print(f"  {part}: skipped, TORCH_PYTHON does not name a python with torch")
    return False


def part_bound(bench):
    """one fit on one thread: share of its own matrix products replayed alone; two fits, and two threads for one, against one"""
    for name, shape in SHAPES.items():
        for _ in range(bench.rounds):
            found = engine(bench, "fit", name, max(5, shape["epochs"] // 2))
            bench.pair(f"{name}: fit, one thread", found["labels_per_second"], found["bound"],
                       ">= 0.78" if name == "S5" else ">= 0.80", unit="labels/s", partner="its products alone")
        for _ in range(bench.rounds):
            bench.pair(f"{name}: two fits on two threads", *two_against_one(bench, name, 2), ">= 1.85", unit="labels/s",
                       partner="one fit on one thread")
    for _ in range(bench.rounds):
        bench.pair("S5: one fit on two threads", *two_against_one(bench, "S5", 1), ">= 1.5", unit="labels/s",
                   partner="one fit on one thread")


def two_against_one(bench, name, members):
    """Labels/s of `members` fits on two threads, and of one fit on one thread, in turns."""
    found = engine(bench, "fit", name, SHAPES[name]["epochs"], members, 2, 1)
    return found["all"], found["one"]


def part_torch(bench):
    """ours and PyTorch in turns: one thread each, then both cores each"""
    if not torch_is_there("torch"):
        return
    subprocess.run([os.environ["TORCH_PYTHON"], str(bench.here / "train_torch.py"), "--check"], check=True)
    torch = {threads: Torch(bench, threads) for threads in (1, 2)}
    for name, shape in SHAPES.items():
        path = bench.folder / (name + ".bin")
        last_line([bench.engine, "data", name, path])
        compare(bench, name, shape, path, torch)
    for process in torch.values():
        process.close()


def compare(bench, name, shape, path, torch):
    ours, both, theirs = [], [], {(v, t): [] for t in torch for v in VARIANTS}
    for _ in range(bench.rounds):
        ours.append(engine(bench, "train", name, shape["epochs"])["labels_per_cpu_second"])
        for variant in VARIANTS:
            theirs[variant, 1].append(torch[1].rates(path, shape, variant))
        for variant in VARIANTS:
            theirs[variant, 2].append(torch[2].rates(path, shape, variant))
        both.append(two_against_one(bench, name, 2)[0])
    wall = {k: [r["wall"] for r in rates] for k, rates in theirs.items()}
    cpu = {v: [r["cpu"] for r in theirs[v, 1]] for v in VARIANTS}
    for variant in VARIANTS:
        for i in range(bench.rounds):
            bench.add(f"{name}: PyTorch {variant}, one thread, CPU time", "labels/s", cpu[variant][i])
            for threads in torch:
                bench.add(f"{name}: PyTorch {variant}, {threads} thread{'s' * (threads > 1)}", "labels/s", wall[variant, threads][i])
    best = max(cpu, key=lambda v: statistics.median(cpu[v]))
    for mine, other in zip(ours, cpu[best]):
        bench.pair(f"{name}: one thread", mine, other, f">= {ONE[name]}", unit="labels/s",
                   partner=f"the best PyTorch ({best}) on one thread")
    best = max(wall, key=lambda k: statistics.median(wall[k]))
    for mine, other in zip(both, wall[best]):
        bench.pair(f"{name}: both cores, ensemble of 2", mine, other, f">= {BOTH[name]}", unit="labels/s",
                   partner=f"the best PyTorch ({best[0]}, {best[1]} thread{'s' * (best[1] > 1)})")


def part_request(bench):
    """from the request to the active model over HTTP, 50 epochs, against eager PyTorch's fit alone"""
    if not torch_is_there("request"):
        return
    folder = data(bench)
    server = bench.server("request")
    last_line([bench.binary, "import", "b", folder, "--db", bench.folder / "request.db", "--json"])
    for n in range(bench.rounds):
        start = time.monotonic()
        run = bench.train(server, epochs=50)
        ours = time.monotonic() - start
        done = server.must("GET", f"/v1/projects/b/training-runs/{run}")
        assert server.must("GET", "/v1/projects/b")["active_model"] == done["model"], done
        theirs = min(last_line([os.environ["TORCH_PYTHON"], bench.here / "train_torch.py", folder, "--threads", t, "--seed", n + 1])
                     ["seconds"] for t in (1, 2))
        bench.pair(f"{folder.name}, 50 epochs, from request to active model", ours, theirs, "<= 0.2", unit="s",
                   partner="eager PyTorch's fit alone, one or two threads")
    server.stop()


def part_genres(bench):
    """training on one thread: labels of all steps by seconds of the step loop"""
    for n in range(bench.rounds):
        found = last_line([bench.binary, "fit", data(bench), "--seed", n + 1, "--json"])
        bench.add(f"fit of {data(bench).name}, one thread", "labels/s", found["labels_per_second"])
