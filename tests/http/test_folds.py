"""Out of fold: consensus, what is resolved and disputed, the figures of annotators, crowdlab."""

import csv
import io
import json
import math
import os
import unittest

import synth
from harness import DATA, Case, command

FIGURES = ("reliability_all", "expected_correct", "agreement_with_others")


class Folds(Case):
    weight = 3

    @classmethod
    def prepare(cls):
        cls.crowd = synth.Crowd(200, seed=9)
        cls.split = {i["id"]: i["split"] for i in cls.crowd.instances}
        cls.path = "/v1/projects/folds"
        settings = {"resolve_threshold": 0.9}
        body = {"name": "folds", "classes": synth.CLASSES, "feature_dim": 2, "settings": settings}
        cls.api.post("/v1/projects", body, expect=201)
        cls.crowd.load(cls.api, cls.path, gold=False)
        cls.api.train("folds", folds=4, settings={"epochs": 30})
        cls.items = {i["instance"]: i for i in cls.api.pages(cls.path + "/consensus", 90)}

    def near(self, a, b, tolerance=2e-5):
        self.assertLessEqual(abs(a - b), tolerance)

    def test_the_basis_is_out_of_fold_in_every_split(self):
        self.assertEqual(len(self.items), 200)
        self.assertEqual({i["basis"] for i in self.items.values()}, {"out_of_fold"})
        self.assertEqual(self.api.get(self.path + "/models/1").json["folds"], 4)

    def test_resolved_and_disputed(self):
        for item in self.items.values():
            self.assertEqual(item["resolved"], item["confidence"] >= 0.9 and item["labels"] > 0, item)
            given = {w["class"] for w in item["why"] if "class" in w}
            self.assertEqual(item["disputed"], not item["resolved"] and len(given) > 1, item)
        for name in ("resolved", "disputed"):
            for value in (True, False):
                wanted = [n for n, i in self.items.items() if i[name] is value]
                query = "%s=%s" % (name, json.dumps(value))
                found = self.api.pages(self.path + "/consensus?" + query, 30)
                self.assertEqual([i["instance"] for i in found], wanted)
                # The list of instances knows it too.
                found = self.api.pages(self.path + "/instances?" + query, 30)
                self.assertEqual([i["id"] for i in found], wanted)
        self.assertGreater(sum(i["resolved"] for i in self.items.values()), 20)
        self.assertGreater(sum(i["disputed"] for i in self.items.values()), 5)
        both = self.api.pages(self.path + "/instances?disputed=true&split=test", 7)
        wanted = [n for n, i in self.items.items() if i["disputed"] and self.split[n] == "test"]
        self.assertEqual([i["id"] for i in both], wanted)

    def test_gold_settles(self):
        name = next(n for n, i in self.items.items() if i["disputed"])
        self.api.put(self.path + "/gold/" + name, {"class": "cat"}, expect=201)
        item = self.api.get(self.path + "/consensus/" + name, expect=200).json
        self.assertEqual((item["resolved"], item["disputed"]), (True, False))
        self.api.delete(self.path + "/gold/" + name, expect=204)

    def test_of_test_the_whole_model_speaks_of_train_a_part(self):
        for split, same in (("test", True), ("train", False)):
            name = next(n for n in self.items if self.split[n] == split)
            labels = [v for v in self.crowd.labels if v["instance"] == name]
            question = {
                "instances": [{"id": name}],
                "annotators": [v["annotator"] for v in labels],
                "return": ["p_class", "p_confusion"],
            }
            p = self.api.post(self.path + "/predict", question, expect=200).json["predictions"][0]
            posterior = list(p["p_class"])
            for v in labels:
                z = synth.CLASSES.index(v["class"])
                posterior = [q * p["annotators"][v["annotator"]]["p_confusion"][k][z] for k, q in enumerate(posterior)]
            off = max(abs(q / sum(posterior) - f) for q, f in zip(posterior, self.items[name]["posterior"]))
            self.assertEqual(off < 1e-5, same, (split, off))

    def test_an_instance_moved_out_of_train_keeps_its_fold(self):
        name = next(n for n in self.items if self.split[n] == "train")
        self.api.ndjson(self.path + "/instances", [{"id": name, "split": "test"}], expect=200)
        moved = self.api.get(self.path + "/consensus/" + name, expect=200).json
        self.assertEqual(moved["posterior"], self.items[name]["posterior"])
        self.api.ndjson(self.path + "/instances", [{"id": name, "split": "train"}], expect=200)

    def test_csv_is_the_same(self):
        text = self.api.get(self.path + "/consensus?format=csv", expect=200).body.decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        self.assertEqual({r["instance"]: r["class"] for r in rows}, {n: i["class"] for n, i in self.items.items()})

    # ---- annotators ----

    def test_figures_of_annotators(self):
        items = {i["annotator"]: i for i in self.api.get(self.path + "/reliability", expect=200).json["items"]}
        for figure in FIGURES:
            self.assertGreater(items["expert"][figure], items["adversary"][figure], figure)
        for figure in FIGURES[1:]:
            self.assertGreater(items["expert"][figure], items["random"][figure] + 0.1, figure)
        train = [i for i in self.crowd.instances if self.split[i["id"]] == "train"]
        question = {"instances": [{"id": i["id"]} for i in train], "annotators": ["fair"], "return": ["p_perf"]}
        found = self.api.post(self.path + "/predict", question, expect=200).json["predictions"]
        self.near(items["fair"]["reliability_all"], sum(p["annotators"]["fair"]["p_perf"] for p in found) / len(train))
        one = self.api.get(self.path + "/reliability/fair", expect=200).json
        for figure in FIGURES:
            self.near(one[figure], items["fair"][figure], 1e-9)
        text = self.api.get(self.path + "/reliability?format=csv", expect=200).body.decode()
        row = next(r for r in csv.DictReader(io.StringIO(text, newline="")) if r["annotator"] == "fair")
        for figure in FIGURES:
            self.near(float(row[figure]), items["fair"][figure], 1e-9)
        unseen = self.api.get(self.path + "/reliability/nobody-yet", expect=200).json
        self.assertEqual([unseen[f] for f in FIGURES], [None] * 3)

    def test_expected_correct_leaves_the_own_label_out(self):
        # posterior without a label = posterior divided by that label's part; both are told by `why` only for the two
        # best classes, so compare on the class given: sum over labels of the annotator, from the model's own numbers.
        share = {}
        for item in self.items.values():
            if self.split[item["instance"]] != "train":
                continue
            for w in item["why"]:
                if "annotator" in w:
                    share.setdefault(w["annotator"], []).append(item["posterior"][synth.CLASSES.index(w["class"])])
        items = {i["annotator"]: i for i in self.api.get(self.path + "/reliability", expect=200).json["items"]}
        for name in ("expert", "fair"):  # their own labels speak for themselves: with them the figure is higher
            self.assertLess(items[name]["expected_correct"], sum(share[name]) / len(share[name]))

    # ---- crowdlab ----

    def test_crowdlab(self):
        body = self.api.get(self.path + "/consensus?method=crowdlab&limit=300", expect=200).json
        self.assertEqual((body["method"], body["model"]), ("crowdlab", 1))
        self.assertEqual({i["basis"] for i in body["items"]}, {"out_of_fold"})
        right = sum(i["class"] == self.crowd.gold[i["instance"]] for i in body["items"])
        self.assertGreater(right / 200, 0.6)
        self.assertTrue(all(i["resolved"] is not None for i in body["items"]))
        one = self.api.get(self.path + "/consensus/i0003?method=crowdlab", expect=200).json
        self.assertEqual(one["posterior"], next(i["posterior"] for i in body["items"] if i["instance"] == "i0003"))

    def test_crowdlab_says_what_is_missing(self):
        path = self.project(dim=2)
        name = path.rsplit("/", 1)[1]
        synth.Crowd(40, seed=2).load(self.api, path, gold=False)
        ask = lambda: self.api.get(path + "/consensus?method=crowdlab")
        self.assertIn("folds", self.problem(ask(), 409, "no-model")["detail"])
        self.api.train(name)
        self.assertIn("folds", self.problem(ask(), 409, "conflict")["detail"])
        items = self.api.get(path + "/reliability", expect=200).json["items"]
        self.assertEqual({i[f] for i in items for f in FIGURES}, {None})
        basis = {i["basis"] for i in self.api.get(path + "/consensus", expect=200).json["items"]}
        self.assertEqual(basis, {"in_sample"})
        self.assertEqual(self.api.get(path + "/instances?resolved=false", expect=200).json["items"], [])
        self.api.train(name, folds=2)
        self.assertEqual(ask().status, 200)
        # An instance without features has only its votes.
        rows = [{"id": "bare", "labels": [{"annotator": "expert", "class": "dog"}]}]
        self.api.ndjson(path + "/instances", rows, expect=(200, 201))
        bare = self.api.get(path + "/consensus/bare?method=crowdlab", expect=200).json
        self.assertEqual((bare["class"], bare["basis"]), ("dog", "labels_only"))
        bare = self.api.get(path + "/consensus/bare", expect=200).json
        self.assertEqual((bare["class"], bare["basis"]), ("dog", "labels_only"))
        self.problem(self.api.get(self.project() + "/consensus?method=crowdlab"), 409, "conflict")


class OwnLabels(Case):
    """Changing an instance's own labels and training again does not change its out-of-fold p."""

    def test_own_labels_do_not_reach_the_own_p(self):
        crowd = synth.Crowd(80, seed=5)
        name = next(i["id"] for i in crowd.instances if i["split"] == "train")
        found = []
        for turn in (0, 1):
            path = self.project(dim=2)
            for v in crowd.labels:
                if turn == 1 and v["instance"] == name:
                    v["class"] = synth.CLASSES[(synth.CLASSES.index(v["class"]) + 1) % 3]
            crowd.load(self.api, path, gold=False)
            self.api.train(path.rsplit("/", 1)[1], folds=3, settings={"epochs": 15})
            # Without labels the posterior is p itself.
            for v in crowd.labels:
                if v["instance"] == name:
                    query = "/labels?instance=%s&annotator=%s" % (name, v["annotator"])
                    self.api.delete(path + query, expect=204)
            item = self.api.get(path + "/consensus/" + name, expect=200).json
            self.assertEqual((item["basis"], item["labels"], item["resolved"]), ("out_of_fold", 0, False))
            found.append(item["posterior"])
        self.assertEqual(found[0], found[1])


class Digits(Case):
    """On digits, a consensus out of fold knows better how sure it may be than one in sample."""

    weight = 4

    def consensus(self, **request):
        settings = {"epochs": 20, "hidden": [128], "annotator_embedding": 64, "batch_size": 64, "alpha": 0}
        self.api.train("digits", settings=settings, **request)
        rows = self.api.get("/v1/projects/digits/consensus?format=ndjson", expect=200).lines
        return [r for r in rows if self.split[r["instance"]] == "train" and r["labels"] > 0]

    def calibration_error(self, rows):
        bins = [[0, 0.0, 0.0] for _ in range(10)]
        for r in rows:
            b = bins[min(9, int(r["confidence"] * 10))]
            b[0] += 1
            b[1] += r["confidence"]
            b[2] += r["class"] == self.gold[r["instance"]]
        return sum(abs(b[1] - b[2]) for b in bins) / len(rows)

    def log_loss(self, rows):
        at = {c: k for k, c in enumerate(self.classes)}
        return sum(-math.log(max(r["posterior"][at[self.gold[r["instance"]]]], 1e-15)) for r in rows) / len(rows)

    @unittest.skipIf(os.environ.get("TEST_QUICK"), "two fits of digits take minutes under ThreadSanitizer")
    def test_out_of_fold_is_better_calibrated(self):
        folder = os.path.join(DATA, "digits")
        command("import", "digits", folder, "--db", self.server.db, check=0)
        with open(os.path.join(folder, "gold.csv"), newline="") as f:
            self.gold = {r["instance"]: r["class"] for r in csv.DictReader(f)}
        with open(os.path.join(folder, "instances.csv"), newline="") as f:
            self.split = {r["instance"]: r["split"] for r in csv.DictReader(f)}
        self.classes = self.api.get("/v1/projects/digits", expect=200).json["classes"]
        inside, outside = self.consensus(), self.consensus(folds=5)
        self.assertEqual({r["basis"] for r in inside}, {"in_sample"})
        self.assertEqual({r["basis"] for r in outside}, {"out_of_fold"})
        self.assertLess(self.calibration_error(outside), self.calibration_error(inside))
        self.assertLess(self.log_loss(outside), self.log_loss(inside))
        right = sum(r["class"] == self.gold[r["instance"]] for r in outside) / len(outside)
        majority = sum(r["majority"] == self.gold[r["instance"]] for r in outside) / len(outside)
        self.assertGreater(right, majority + 0.1)
