"""The test tools themselves: a failing test makes run.py and the unit test harness fail; a passing one does not."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from contract import ROOT

RUN = os.path.join(ROOT, "tests", "http", "run.py")
UNIT = os.path.join(ROOT, "tests", "unit")


class SelfTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="annotmix-selftest-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def run_py(self, body, *more):
        with open(os.path.join(self.folder, "test_it.py"), "w", encoding="utf-8") as f:
            f.write("import unittest\nclass T(unittest.TestCase):\n    def test_one(self):\n        %s\n" % body)
        done = subprocess.run(
            [sys.executable, RUN, "--folder", self.folder, *more], capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout.splitlines()[-1]

    def test_run_py(self):
        self.assertEqual(self.run_py("pass"), (0, "1 passed, 0 failed, 0 skipped"))
        self.assertEqual(self.run_py("self.fail('on purpose')"), (1, "0 passed, 1 failed, 0 skipped"))
        self.assertEqual(self.run_py("raise OSError"), (1, "0 passed, 1 failed, 0 skipped"))
        self.assertEqual(self.run_py("self.skipTest('why')"), (0, "0 passed, 0 failed, 1 skipped"))
        self.assertEqual(self.run_py("with self.subTest(1): self.fail()")[0], 1)
        self.assertEqual(self.run_py("pass", "-k", "no_such_name")[0], 1)

    def test_a_server_that_cannot_start_is_a_failure(self):
        body = "import harness; harness.Server()"
        done = self.run_py(body, "--binary", "/bin/false")
        self.assertEqual(done, (1, "0 passed, 1 failed, 0 skipped"))

    def unit(self, body):
        source, program = os.path.join(self.folder, "t.c"), os.path.join(self.folder, "t")
        with open(source, "w", encoding="utf-8") as f:
            f.write('#include "test.h"\nTEST(one)\n{\n    %s\n}\nTEST(two)\n{\n    CHECK(true);\n}\n' % body)
        subprocess.run(
            [
                os.environ.get("CC", "cc"),
                "-std=gnu17",
                "-D_GNU_SOURCE",
                "-I",
                UNIT,
                "-o",
                program,
                source,
                os.path.join(UNIT, "test.c"),
                "-lm",
            ],
            check=True,
            timeout=60,
        )
        done = subprocess.run([program], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout.splitlines()[-1]

    def test_unit_harness(self):
        self.assertEqual(self.unit("CHECK_INT(1, 1);"), (0, "2 passed, 0 failed"))
        for bad in (
            "CHECK(1 > 2);",
            "CHECK_INT(1, 2);",
            "CHECK_NEAR(1, 2, 0.5);",
            'CHECK_STR("a", "b");',
            "CHECK_NEAR(0.0 / 0.0, 0, 1);",
        ):
            self.assertEqual(self.unit(bad), (1, "1 passed, 1 failed"), bad)
