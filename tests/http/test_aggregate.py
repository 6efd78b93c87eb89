"""The command `aggregate`: true classes from labels alone, from a folder or one file."""

import csv
import gzip
import io
import os
import shutil
import tempfile
import unittest

from harness import DATA, command, strict_json

DIGITS = os.path.join(DATA, "digits")
METHODS = ["majority_vote", "wawa", "zero_based_skill", "dawid_skene", "one_coin_dawid_skene", "glad", "mace", "kos",
           "m_msr"]


class Aggregate(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="annotmix-aggregate-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def write(self, name, text, pack=False):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with (gzip.open if pack else open)(path, "wb") as file:
            file.write(text.encode())
        return path

    def run_json(self, *words):
        return strict_json(command("aggregate", *words, "--json", check=0).out.splitlines()[-1])

    def table(self, *words):
        path = os.path.join(self.folder, "out.csv")
        command("aggregate", *words, "--out", path, check=0)
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        self.assertTrue(text.startswith("instance,class,confidence\n"))
        return text

    def test_digits_by_every_method(self):
        for method in METHODS:
            if method == "kos":
                refused = command("aggregate", DIGITS, "--method", method, check=1)
                self.assertIn("two classes", refused.err)
                continue
            found = self.run_json(DIGITS, "--method", method)
            self.assertEqual(found["method"], method)
            self.assertGreater(found["n"], 1000)
            self.assertGreater(found["accuracy"], 0.6, method)
            low, high = found["accuracy_interval"]
            self.assertTrue(low < found["accuracy"] < high)
            self.assertGreaterEqual(found["seconds"], 0)
        # EM sees the adversary, the vote does not.
        best = self.run_json(DIGITS, "--method", "dawid_skene")
        self.assertGreater(best["accuracy"], best["majority_vote_accuracy"] + 0.02)

    def test_people_get_a_table(self):
        done = command("aggregate", DIGITS, check=0)
        self.assertIn("Dawid-Skene of", done.out)
        self.assertIn("Krippendorff's alpha", done.out)
        self.assertRegex(done.out, r"accuracy \d+\.\d\d % \(95 %")
        self.assertEqual(done.err, "")

    def test_order_of_rows_and_repeated_pairs(self):
        rows = [(i, a, "yes" if (i + a) % 3 else "no") for i in range(30) for a in range(5)]
        lines = ["i%02d,a%d,%s" % r for r in rows]
        first = self.table(self.write("a.csv", "task,worker,label\n" + "\n".join(lines) + "\n"))
        # Backwards, under the other header, compressed; each row after one with the other class: the last counts.
        twice = [x for line, (_, _, z) in zip(lines, rows) for x in (line.rsplit(",", 1)[0] + ("," + "no" * (z == "yes")
                 + "yes" * (z == "no")), line)]
        head = "instance,annotator,class\n"
        self.assertEqual(first, self.table(self.write("b.csv", head + "\n".join(reversed(lines)) + "\n")))
        self.assertEqual(first, self.table(self.write("c.csv.gz", head + "\n".join(twice) + "\n", pack=True)))
        self.assertEqual([r[0] for r in csv.reader(io.StringIO(first))][1:], ["i%02d" % i for i in range(30)])

    def test_folder_without_instances_and_gold_given_apart(self):
        labels = "task,worker,label\n" + "".join("i%d,a%d,%s\n" % (i, a, "xy"[i % 2]) for i in range(8) for a in range(3))
        self.write("d/labels.csv", labels)
        self.assertEqual(self.run_json(self.folder + "/d")["n"], 0)
        self.assertIsNone(self.run_json(self.folder + "/d")["accuracy"])
        gold = self.write("gold.csv", "instance,class\ni0,x\ni1,x\nelsewhere,z\n")
        found = self.run_json(self.folder + "/d", "--gold", gold)
        self.assertEqual((found["n"], found["accuracy"]), (2, 0.5))
        # A folder's own gold is found; the one that is named wins.
        self.write("d/gold.csv", "instance,class\ni0,x\n")
        self.assertEqual(self.run_json(self.folder + "/d")["n"], 1)
        self.assertEqual(self.run_json(self.folder + "/d", "--gold", gold)["n"], 2)
        # Gold that is trained on leaves the metric and decides its instance against every label.
        trained = self.run_json(self.folder + "/d", "--gold", gold, "--gold-use", "train")
        self.assertEqual((trained["n"], trained["accuracy"]), (0, None))
        table = self.table(self.folder + "/d", "--gold", gold, "--gold-use", "train")
        self.assertIn("\ni1,x,1\n", table)

    def test_history_decides_between_two(self):
        labels = self.write("l.csv", "task,worker,label\ni0,good,x\ni0,bad,y\ni1,good,y\ni1,bad,x\n")
        history = self.write("h.csv", "annotator,true_class,given_class,count\ngood,x,x,45\ngood,y,y,45\ngood,x,y,5\n"
                             "good,y,x,5\nbad,x,y,25\nbad,x,x,25\nbad,y,x,25\nbad,y,y,25\nstranger,x,y,3\n")
        table = self.table(labels, "--history", history)
        self.assertIn("\ni0,x,", table)
        self.assertIn("\ni1,y,", table)
        wrong = self.write("h2.csv", "annotator,true_class,given_class,count\ngood,x,x,-1\n")
        self.assertIn("row 2", command("aggregate", labels, "--history", wrong, check=1).err)

    def test_one_class_one_annotator_one_label(self):
        path = self.write("l.csv", "task,worker,label\ni0,a,x\n")
        for method in METHODS:
            self.assertEqual(self.table(path, "--method", method), "instance,class,confidence\ni0,x,1\n")

    def test_wrong_files_and_words(self):
        good = self.write("l.csv", "task,worker,label\ni0,a,x\ni0,b,y\n")
        for words, status, text in [
            ((os.path.join(self.folder, "nothing.csv"),), 1, "nothing.csv"),
            ((self.write("empty/readme", ""),), 1, "header"),
            ((os.path.join(self.folder, "empty"),), 1, "labels.csv"),
            ((self.write("head.csv", "a,b,c\ni,j,k\n"),), 1, "task,worker,label"),
            ((self.write("none.csv", "task,worker,label\n"),), 1, "no labels"),
            ((self.write("cells.csv", "task,worker,label\ni0,a,x\ni1,a\n"),), 1, "row 3"),
            ((self.write("name.csv", "task,worker,label\ni0,,x\n"),), 1, "annotator is empty"),
            ((good, "--gold", self.write("g.csv", "instance,class\ni0,x\ni0,y\n")), 1, "another gold class"),
            ((good, "--out", os.path.join(self.folder, "no/such/out.csv")), 1, "Cannot write"),
            ((good, "--method", "best"), 2, "no label-only method"),
            ((good, "--method", "kos", "--gold-use", "train"), 2, "no use for gold"),
            ((good, "--method", "glad", "--history", good), 2, "no use for a history"),
            ((good, "--gold-use", "sometimes"), 2, "evaluate or train"),
            ((good, "--seed", "-1"), 2, "--seed"),
            ((good, "--rounds", "0"), 2, "--rounds"),
            ((), 2, "usage"),
        ]:
            done = command("aggregate", *words, check=status)
            self.assertIn(text, done.err)
            self.assertEqual(done.out, "")
        self.write("meta/labels.csv", "task,worker,label\ni0,a,x\n")
        self.write("meta/meta.json", '{"classes":["y"]}')
        self.assertIn("not among", command("aggregate", os.path.join(self.folder, "meta"), check=1).err)
        self.assertIn("--gold FILE", command("aggregate", "--help", check=0).out)
