#!/usr/bin/env python3
"""Regression guard: instruction counts of a fixed fit, prediction and ingest, which do not depend on the machine's load.

    check.py --engine build/default/bench/engine [--update]

Counts come from callgrind, with one OpenBLAS core type and one kernel forced, and are compared with instructions.json: more
than 3 % away, up or down, fails (down: keep the win by `make bench-check UPDATE=1`). They are only comparable on the
set-up they were made on; anywhere else the check says why it is skipped.
"""
import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FILE = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.03
RUNS = {"fit": ["train", "S1", "1"], "predict": ["predict", "10240"], "ingest": ["ingest", "50000"]}
# SSE: valgrind emulates every fused multiply-add of AVX2 by a call, hundreds of times slower.
FORCED = {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "1", "ANNOTMIX_KERNEL": "sse2"}


def set_up():
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(encoding="utf-8"), re.M))
    compiler = subprocess.run([os.environ.get("CC", "cc"), "-dumpversion"], check=True, text=True, capture_output=True).stdout
    return {"system": f"{release.get('ID')} {release.get('VERSION_ID')}", "machine": platform.machine(),
            "compiler": "gcc " + compiler.split(".")[0].strip()}


def count(engine, arguments):
    with tempfile.TemporaryDirectory(prefix="annotmix-callgrind-") as folder:
        out = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", engine, *arguments],
                             check=True, text=True, capture_output=True, env={**os.environ, **FORCED}).stderr
    return int(re.search(r"Collected : (\d+)", out)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--engine", required=True)
    parser.add_argument("--update", action="store_true", help="write the counts of now into instructions.json")
    arguments = parser.parse_args()
    here, kept = set_up(), json.loads(FILE.read_text(encoding="ascii")) if FILE.exists() else {"set_up": None, "counts": {}}
    if not arguments.update and here != kept["set_up"]:
        print(f"skipped: the counts were made on {kept['set_up']}, this is {here}")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    failed, counts = 0, {}
    for name, run in RUNS.items():
        counts[name] = count(arguments.engine, run)
        if arguments.update:
            print(f"{name:8} {counts[name]:>14,} instructions")
            continue
        change = counts[name] / kept["counts"][name] - 1
        good = abs(change) <= TOLERANCE
        failed += not good
        print(f"{'ok' if good else 'FAIL':4} {name:8} {counts[name]:>14,} instructions, {change:+.2%} against {kept['counts'][name]:,}")
    if arguments.update:
        FILE.write_text(json.dumps({"set_up": here, "counts": counts}, indent=1) + "\n", encoding="ascii")
        return 0
    print(f"{len(RUNS) - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
