#!/usr/bin/env python3
"""Label-only methods against crowd-kit, alternating in one run, and on ten million labels.

    python3 tests/bench/aggregate.py [--build build] [--data ../shared/data/product] [--methods dawid_skene,mace,glad]
                                     [--rounds 3] [--skip-crowd-kit] [--skip-large]

Needs a built libannotmix.a and annotmixd, and for the comparison a Python with crowd-kit (scikit-learn < 1.7). Ours is
timed by the `seconds` of `annotmixd aggregate --json` (the method alone, as crowd-kit's fit_predict is), and both by
CPU seconds of the whole process or call, which other work on the machine disturbs less. The last line is JSON.
"""
import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CROWD_KIT = {"dawid_skene": ("DawidSkene", {"n_iter": 100}), "glad": ("GLAD", {}), "mace": ("MACE", {}),
             "one_coin_dawid_skene": ("OneCoinDawidSkene", {"n_iter": 100}),
             "wawa": ("Wawa", {}), "zero_based_skill": ("ZeroBasedSkill", {}),
             "kos": ("KOS", {}), "majority_vote": ("MajorityVote", {})}
LARGE = [("dawid_skene", 10_000_000, 1_000_000, 10, 10_000), ("crowdlab", 1_000_000, 200_000, 10, 1_000)]


def ours(binary, data, method):
    """Seconds of the method, CPU seconds of the whole process (reading included), accuracy."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run([binary, "aggregate", str(data), "--method", method, "--json"], capture_output=True, text=True,
                         check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    last = json.loads(out.strip().splitlines()[-1])
    return last["seconds"], after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, last["accuracy"]


def theirs(table, gold, method):
    import crowdkit.aggregation  # only where it is compared

    name, settings = CROWD_KIT[method]
    wall, cpu = time.monotonic(), time.process_time()
    answer = getattr(crowdkit.aggregation, name)(**settings).fit_predict(table.copy())
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    truth = gold.reindex(answer.index)
    return wall, cpu, float((answer[truth.notna()] == truth[truth.notna()]).mean())


def compare(arguments):
    import pandas

    table = pandas.read_csv(arguments.data / "labels.csv", dtype=str)
    gold = pandas.read_csv(arguments.data / "gold.csv", dtype=str).set_index("instance")["class"]
    result = {}
    for method in arguments.methods.split(","):
        rounds = 1 if method == "glad" else arguments.rounds
        pairs = [(ours(arguments.binary, arguments.data, method), theirs(table, gold, method)) for _ in range(rounds)]
        mine, other = ([statistics.median(p[side][i] for p in pairs) for i in range(3)] for side in (0, 1))
        result[method] = {"seconds": mine[0], "crowd_kit_seconds": other[0], "times_faster": other[0] / mine[0],
                          "cpu_seconds_of_the_process": mine[1], "crowd_kit_cpu_seconds": other[1],
                          "times_less_cpu": other[1] / mine[1], "accuracy": mine[2], "crowd_kit_accuracy": other[2]}
        print(f"{method:21} ours {mine[0]:8.3f} s (process {mine[1]:.3f} CPU)   crowd-kit {other[0]:8.2f} s "
              f"({other[1]:.2f} CPU)   {other[0] / mine[0]:6.0f} times   "
              f"accuracy {100 * mine[2]:.2f} {100 * other[2]:.2f}", flush=True)
    return result


def large(arguments):
    program = arguments.build / "bench-aggregate"
    subprocess.run(["cc", "-O2", "-std=gnu17", f"-I{ROOT / 'include'}", f"-I{ROOT / 'src'}", "-o", program,
                    ROOT / "tests/bench/aggregate.c", arguments.build / "libannotmix.a", "-ljansson", "-lnettle",
                    "-lopenblas", "-lm", "-lpthread"], check=True)
    result = []
    for case in LARGE:
        out = subprocess.run([program, *map(str, case)], capture_output=True, text=True, check=True).stdout
        result.append(json.loads(out))
        print("{method:21} {labels} labels, {instances} instances, {classes} classes, {annotators} annotators: "
              "{seconds:.1f} s ({cpu_seconds:.1f} CPU), {peak_mib:.0f} MiB, {rounds} rounds"
              .format(**result[-1]), flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "../shared/data/product")
    parser.add_argument("--methods", default="dawid_skene,mace,glad")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-crowd-kit", action="store_true")
    parser.add_argument("--skip-large", action="store_true")
    arguments = parser.parse_args()
    arguments.binary = arguments.build / "annotmixd"
    result = {}
    if not arguments.skip_crowd_kit:
        result["product"] = compare(arguments)
    if not arguments.skip_large:
        result["large"] = large(arguments)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
