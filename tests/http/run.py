#!/usr/bin/env python3
"""Runs the HTTP tests.

    python3 tests/http/run.py --binary build/annotmixd [-k PATTERN] [-j N] [-l]

Classes run in N processes (default: cores, at most 2), each with servers of its own. When all classes ran, a documented
operation or success status that nobody saw fails the run. The last line is "N passed, N failed, N skipped"; the exit
status is 1 when anything failed.
"""

import argparse
import fnmatch
import importlib.util
import multiprocessing
import os
import sys
import time
import traceback
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)


def load(folder):
    """Test classes of all test_*.py of the folder: [(module name, class)]."""
    found = []
    for name in sorted(os.listdir(folder)):
        if not (name.startswith("test_") and name.endswith(".py")):
            continue
        spec = importlib.util.spec_from_file_location(name[:-3], os.path.join(folder, name))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name[:-3]] = module
        spec.loader.exec_module(module)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, unittest.TestCase) and value.__module__ == name[:-3]:
                found.append((name[:-3], value))
    return found


def matches(test, pattern):
    if pattern is None:
        return True
    name = test.id()
    return fnmatch.fnmatchcase(name, pattern) if "*" in pattern else pattern in name


class Result(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.rows = []  # (name, outcome, seconds, text)
        self.begun = 0.0

    def startTest(self, test):
        super().startTest(test)
        self.begun = time.monotonic()

    def note(self, test, outcome, text=""):
        self.rows.append((test.id(), outcome, time.monotonic() - self.begun if self.begun else 0.0, text))

    def addSuccess(self, test):
        self.note(test, "ok")

    def addFailure(self, test, err):
        self.note(test, "FAIL", "".join(traceback.format_exception(*err)))

    def addError(self, test, err):
        self.note(test, "FAIL", "".join(traceback.format_exception(*err)))

    def addSkip(self, test, reason):
        self.note(test, "skip", reason)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.note(subtest, "FAIL", "".join(traceback.format_exception(*err)))


def run_class(job):
    """In a worker process: one class. Returns its rows and what it saw of the contract."""
    folder, module, name, pattern = job
    cls = next(c for m, c in load_once(folder) if m == module and c.__name__ == name)
    suite = unittest.TestSuite(t for t in unittest.defaultTestLoader.loadTestsFromTestCase(cls) if matches(t, pattern))
    result = Result()
    begun = time.monotonic()
    suite.run(result)
    harness = sys.modules.get("harness")
    seen = set(harness.CONTRACT.seen) if harness else set()
    return name, time.monotonic() - begun, result.rows, seen


_loaded = {}


def load_once(folder):
    if folder not in _loaded:
        _loaded[folder] = load(folder)
    return _loaded[folder]


def main():
    parser = argparse.ArgumentParser(description="HTTP tests of annotmixd")
    parser.add_argument("--binary", help="the program (default build/annotmixd)")
    parser.add_argument("-k", metavar="PATTERN", help="only tests whose name holds this (or fits it, with *)")
    parser.add_argument("-j", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    parser.add_argument("-l", action="store_true", help="list the tests")
    parser.add_argument("--folder", default=HERE, help=argparse.SUPPRESS)  # the self test runs a folder of its own
    options = parser.parse_args()
    if options.binary:
        os.environ["ANNOTMIXD"] = os.path.abspath(options.binary)
    jobs = []
    for module, cls in load_once(options.folder):
        tests = [t for t in unittest.defaultTestLoader.loadTestsFromTestCase(cls) if matches(t, options.k)]
        if options.l:
            print("\n".join(t.id() for t in tests))
        elif tests:
            jobs.append((options.folder, module, cls.__name__, options.k))
    if options.l:
        return 0
    jobs.sort(key=lambda j: -getattr(next(c for m, c in load_once(options.folder) if c.__name__ == j[2]), "weight", 1))
    counts, seen, failures = {"ok": 0, "FAIL": 0, "skip": 0}, set(), []
    with multiprocessing.get_context("fork").Pool(max(1, options.j), maxtasksperchild=1) as pool:
        for name, seconds, rows, saw in pool.imap_unordered(run_class, jobs):
            seen |= saw
            bad = sum(1 for r in rows if r[1] == "FAIL")
            print(
                "%-28s %3d tests %6.1f s%s" % (name, len(rows), seconds, "   %d FAILED" % bad if bad else ""),
                flush=True,
            )
            for test, outcome, took, text in rows:
                counts[outcome] += 1
                if outcome == "FAIL":
                    failures.append(test)
                    print("FAIL %s (%.1f s)\n%s" % (test, took, text), flush=True)
                elif outcome == "skip":
                    print("skip %s: %s" % (test, text), flush=True)
    if options.k is None and options.folder == HERE:
        import harness

        harness.CONTRACT.seen = seen
        unseen = harness.CONTRACT.unseen()
        counts["FAIL" if unseen else "ok"] += 1
        if unseen:
            failures.append("coverage of api/openapi.yaml")
            print("FAIL coverage of api/openapi.yaml\n  " + "\n  ".join(unseen))
    if not any(counts.values()):
        print("no test has this name")
        counts["FAIL"] += 1
    for test in failures:
        print("failed: " + test)
    print("%d passed, %d failed, %d skipped" % (counts["ok"], counts["FAIL"], counts["skip"]))
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
