"""Face-offs of the server, and the commands `faceoff` and `simulate`."""

import csv
import io
import json
import os
import shutil
import tempfile
import unittest

import synth
from harness import DATA, Client, Server, command, strict_json, until

DIGITS = os.path.join(DATA, "digits")


class FaceOffs(synth.CrowdCase):
    weight = 4
    args = ("--trainers", "2")

    def test_from_queue_to_table(self):
        path, name = self.loaded()
        methods = ["majority_vote", "dawid_skene"]
        answer = self.api.post(path + "/face-offs", {"methods": methods, "repeat": 2, "seed": 4}, expect=202)
        queued = answer.json
        self.assertEqual(answer.header("Location"), path + "/face-offs/%d" % queued["id"])
        self.assertEqual((queued["method"], queued["seed"], queued["activate"]), ("face_off", 4, "never"))
        self.assertEqual(queued["settings"], {"methods": methods, "repeat": 2})
        run = self.api.wait(name, queued["id"])
        table = run["metrics"]
        self.assertEqual((table["basis"], table["split"], table["folds"]), ("gold", "test", 0))
        self.assertEqual(table["n"], sum(1 for i in self.crowd.instances if i["split"] == "test"))
        self.assertEqual({r["method"] for r in table["rows"]}, set(methods))
        means = [r["accuracy"]["mean"] for r in table["rows"]]
        self.assertEqual(means, sorted(means, reverse=True))
        for row in table["rows"]:
            self.assertEqual((row["state"], row["fits_failed"], len(row["accuracy"]["values"])), ("succeeded", 0, 2))
            self.assertIsNone(row["held_out_log_likelihood"])
        self.assertEqual(table["consensus"]["n"], sum(1 for i in self.crowd.instances if i["split"] == "train"))
        self.assertIn("glad", [r["method"] for r in table["consensus"]["rows"]])
        # It is a run, and leaves no model behind.
        self.assertEqual((run["model"], run["activated"], run["error"]), (None, None, None))
        self.assertIsNone(self.api.get(path).json["active_model"])
        self.assertEqual(self.api.get(path + "/training-runs").json["items"][0]["method"], "face_off")
        one = self.api.get(path + "/face-offs/%d" % queued["id"], expect=200)
        self.assertEqual(one.json, run)
        again = self.api.get(
            path + "/face-offs/%d" % queued["id"], headers={"If-None-Match": one.header("ETag")}, expect=304
        )
        self.assertEqual(again.body, b"")

    def test_a_repeat_is_the_training_run_of_that_seed(self):
        path, name = self.loaded()
        face_off = self.api.post(path + "/face-offs", {"methods": ["crowd_layer"], "seed": 7}, expect=202).json
        run = self.api.post(path + "/training-runs", {"method": "crowd_layer", "seed": 7, "activate": "never"}).json
        row = self.api.wait(name, face_off["id"])["metrics"]["rows"][0]
        run = self.api.wait(name, run["id"])
        self.assertEqual(row["accuracy"]["values"], [run["metrics"]["test"]["accuracy"]])
        self.assertEqual(row["settings"], run["settings"])

    def test_table_as_csv_and_markdown(self):
        path, name = self.loaded()
        run = self.api.post(path + "/face-offs", {"methods": ["majority_vote", "ground_truth"]}, expect=202).json
        self.api.wait(name, run["id"])
        one = path + "/face-offs/%d" % run["id"]
        rows = list(csv.DictReader(io.StringIO(self.api.get(one + "?format=csv", expect=200).body.decode())))
        by_method = {r["method"]: r for r in rows if r["section"] == "method"}
        self.assertEqual(set(by_method), {"majority_vote", "ground_truth"})
        self.assertEqual((by_method["majority_vote"]["rank"], by_method["ground_truth"]["rank"]), ("1", ""))
        self.assertTrue(0 <= float(by_method["majority_vote"]["accuracy"]) <= 1)
        self.assertTrue([r for r in rows if r["section"] == "consensus"])
        text = self.api.get(one + "?format=markdown", expect=200).body.decode()
        self.assertIn("| rank | method | accuracy % |", text)
        self.assertIn("an upper bound, not ranked", text)
        accepted = self.api.get(one, headers={"Accept": "text/markdown"}, expect=200)
        self.assertEqual(accepted.header("Content-Type"), "text/markdown; charset=utf-8")
        self.assertEqual(accepted.body.decode(), text)
        self.problem(self.api.get(one + "?format=ndjson"), 400, "invalid-query")
        self.problem(self.api.get(one, headers={"Accept": "image/png"}), 406, "not-acceptable")

    def test_without_gold(self):
        path, name = self.loaded(gold=False)
        run = self.api.post(path + "/face-offs", {"methods": ["majority_vote", "dawid_skene", "madl"]}, expect=202).json
        table = self.api.wait(name, run["id"])["metrics"]
        self.assertEqual((table["basis"], table["split"], table["n"], table["folds"]), ("crowd", None, None, 5))
        self.assertIsNone(table["consensus"])
        self.assertEqual([r["rank"] for r in table["rows"]][0], 1)
        for row in table["rows"]:
            self.assertIsNone(row["accuracy"])
            self.assertLess(row["held_out_log_likelihood"]["mean"], 0)
            self.assertTrue(1 <= row["risk_rank"]["mean"] <= 3, row)

    def test_one_that_fails_does_not_end_the_others(self):
        path, name = self.loaded(gold=False)
        run = self.api.post(path + "/face-offs", {"methods": ["ground_truth", "majority_vote"]}, expect=202).json
        rows = self.api.wait(name, run["id"])["metrics"]["rows"]
        self.assertEqual([r["method"] for r in rows], ["majority_vote", "ground_truth"])
        self.assertEqual([r["state"] for r in rows], ["succeeded", "failed"])
        self.assertIn("gold", rows[1]["error"])
        self.assertEqual((rows[1]["fits_failed"], rows[1]["rank"]), (1, None))

    def test_gold_of_test_changes_the_scores_only(self):
        """Permuting the gold of test moves accuracies; what was fitted and its held-out figures stay."""
        tables = []
        for turn in (0, 1):
            path, name = self.loaded()
            if turn:
                ids = [i["id"] for i in self.crowd.instances if i["split"] == "test"]
                classes = [self.crowd.gold[i] for i in ids]
                rows = [{"instance": i, "class": c} for i, c in zip(ids, classes[1:] + classes[:1])]
                self.api.ndjson(path + "/gold", rows, expect=200)
            run = self.api.post(path + "/face-offs", {"methods": ["conal", "dawid_skene"], "folds": 3}, expect=202).json
            tables.append({r["method"]: r for r in self.api.wait(name, run["id"])["metrics"]["rows"]})
        for method, row in tables[0].items():
            other = tables[1][method]
            self.assertEqual(row["held_out_log_likelihood"], other["held_out_log_likelihood"])
            self.assertEqual(row["risk_rank"], other["risk_rank"])
            self.assertNotEqual(row["accuracy"], other["accuracy"])

    def slow(self, path):
        run = self.api.post(path + "/face-offs", {"repeat": 100}, expect=202).json
        until(lambda: self.api.get(path + "/face-offs/%d" % run["id"]).json["state"] == "running", "a running face-off")
        return run["id"]

    def test_progress_cancel_and_coalescing(self):
        path, name = self.loaded()
        first = self.slow(path)
        one = path + "/face-offs/%d" % first
        progress = until(
            lambda: (lambda p: p if p["epoch"] >= 1 else None)(self.api.get(one).json["progress"]), "the first fit"
        )
        self.assertEqual(progress["epochs"], 100 * len(self.api.get("/v1/methods").json["items"]) - 100 * self.autos())
        self.assertTrue(0 < progress["fraction"] < 1)
        self.problem(self.api.get(one + "?format=csv"), 409, "conflict", says="running")
        body = {"methods": ["madl", "annot_mix"], "repeat": 3}
        second = self.api.post(path + "/face-offs", body, expect=202).json
        body["methods"].reverse()
        self.assertEqual(self.api.post(path + "/face-offs", body, expect=200).json["id"], second["id"])
        third = self.api.post(path + "/face-offs", {**body, "seed": 2}, expect=202).json
        self.assertNotEqual(third["id"], second["id"])
        for run in self.api.get(path + "/face-offs").json["items"]:
            self.api.post(path + "/training-runs/%d/cancel" % run["id"], expect=202)
        self.assertEqual(self.api.wait(name, first, "cancelled")["metrics"], {})
        self.problem(self.api.get(one + "?format=markdown"), 409, "conflict", says="cancelled")

    def autos(self):
        return sum(1 for m in self.api.get("/v1/methods").json["items"] if m["name"] == "auto")

    def test_list_holds_face_offs_only(self):
        path, name = self.loaded()
        ids = []
        for seed in range(1, 4):
            self.api.train(name, seed=seed)
            run = self.api.post(path + "/face-offs", {"methods": ["majority_vote"], "seed": seed}, expect=202).json
            self.api.wait(name, run["id"])
            ids.append(run["id"])
        self.assertEqual([r["id"] for r in self.api.pages(path + "/face-offs", 2)], ids[::-1])
        self.assertEqual([r["id"] for r in self.api.pages(path + "/face-offs", 3)], ids[::-1])
        self.assertEqual(len(self.api.pages(path + "/training-runs", 4)), 6)
        self.problem(self.api.get(path + "/face-offs/%d" % (ids[0] - 1)), 404, "not-found", says="no face-off")
        self.problem(self.api.get(path + "/face-offs/999"), 404, "not-found")
        self.problem(self.api.get(path + "/face-offs/x"), 404, "not-found")

    def test_what_is_refused(self):
        path, _ = self.loaded()
        for body, pointer in (
            ({"methods": ["nonesuch"]}, "/methods/0"),
            ({"methods": ["madl", "auto"]}, "/methods/1"),
            ({"methods": ["madl", "madl"]}, "/methods/1"),
            ({"methods": []}, "/methods"),
            ({"methods": [1]}, "/methods/0"),
            ({"repeat": 0}, "/repeat"),
            ({"repeat": 101}, "/repeat"),
            ({"folds": 1}, "/folds"),
            ({"folds": 21}, "/folds"),
            ({"seed": -1}, "/seed"),
            ({"seed": 2**53 - 1, "repeat": 2}, "/seed"),
            ({"ensemble": 2}, "/ensemble"),
        ):
            self.problem(self.api.post(path + "/face-offs", body), 422, "invalid-setting", pointer=pointer)
        self.problem(self.api.post(path + "/face-offs", [1]), 422, "invalid-body")
        self.problem(self.api.call("POST", path + "/face-offs", "{", type="application/json"), 400, "invalid-body")
        self.problem(self.api.post(path + "/face-offs?x=1", {}), 400, "invalid-query")
        empty = self.project(dim=2)
        self.problem(self.api.post(empty + "/face-offs", {}), 409, "nothing-to-train")
        flat = self.project(dim=0)
        self.problem(self.api.post(flat + "/face-offs", {}), 409, "nothing-to-train", says="feature_dim 0")
        self.problem(self.api.post("/v1/projects/none/face-offs", {}), 404, "unknown-project")

    def test_labels_it_has_seen_still_count_for_auto_train(self):
        every = len(self.crowd.labels) + 5
        path, name = self.loaded(
            settings={"auto_train": {"every_labels": every}, "training": {"settings": {"epochs": 1, "hidden": [4]}}}
        )
        run = self.api.post(path + "/face-offs", {"methods": ["majority_vote"]}, expect=202).json
        self.api.wait(name, run["id"])
        rows = [{"instance": "i0000", "annotator": "late%d" % i, "class": "cat"} for i in range(5)]
        self.api.ndjson(path + "/labels", rows, expect=(200, 201))
        until(
            lambda: [r for r in self.api.get(path + "/training-runs").json["items"] if r["method"] != "face_off"],
            "a run by rule",
        )


class Restart(unittest.TestCase):
    weight = 2

    def test_a_face_off_survives_kill_9(self):
        crowd = synth.Crowd(40)
        server = Server("--trainers", "1")
        try:
            api = Client(server)
            api.post("/v1/projects", {"name": "p", "classes": synth.CLASSES, "feature_dim": 2}, expect=201)
            crowd.load(api, "/v1/projects/p")
            body = {"methods": ["majority_vote", "union_net"], "repeat": 20, "seed": 3}
            run = api.post("/v1/projects/p/face-offs", body, expect=202).json
            one = "/v1/projects/p/face-offs/%d" % run["id"]
            until(lambda: api.get(one).json["progress"]["epoch"] >= 1, "the first fit")
            api.close()
            server.kill()
            again = Server("--trainers", "1", folder=server.folder)
            try:
                api = Client(again)
                ended = api.wait("p", run["id"])
                table = {r["method"]: r["accuracy"]["values"] for r in ended["metrics"]["rows"]}
                fresh = api.post("/v1/projects/p/face-offs", body, expect=202).json
                other = api.wait("p", fresh["id"])["metrics"]["rows"]
                self.assertEqual(table, {r["method"]: r["accuracy"]["values"] for r in other})
                api.close()
                again.stop()
            finally:
                again.kill()
        finally:
            server.remove()


class Commands(unittest.TestCase):
    weight = 3

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="annotmix-faceoff-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, *names):
        with open(self.path(os.path.join(*names)), "rb") as file:
            return file.read()

    def meta(self, name):
        return json.loads(self.read(name, "meta.json"))

    def simulate(self, out, *words, source=DIGITS, check=0):
        return command("simulate", source, "--out", self.path(out), *words, check=check)

    def test_faceoff_prints_and_writes_one_table(self):
        words = ["--methods", "majority_vote,dawid_skene", "--repeat", "2", "--set", "epochs=2", "--set=hidden=16"]
        files = ["--csv", self.path("t.csv"), "--markdown", self.path("t.md")]
        done = command("faceoff", DIGITS, *words, *files, "--json", check=0)
        table = strict_json(done.out.splitlines()[-1])
        self.assertEqual([r["rank"] for r in table["rows"]], [1, 2])
        self.assertEqual(table["rows"][0]["settings"]["hidden"], [16])
        self.assertEqual(done.err, "")
        rows = list(csv.DictReader(io.StringIO(self.read("t.csv").decode())))
        self.assertEqual([r["method"] for r in rows[:2]], [r["method"] for r in table["rows"]])
        self.assertAlmostEqual(float(rows[0]["accuracy"]), table["rows"][0]["accuracy"]["mean"])
        self.assertIn("| 1 | %s |" % table["rows"][0]["method"], self.read("t.md").decode())
        one = command("faceoff", DIGITS, *words, "--threads", "1", "--json", check=0).out.splitlines()[-1]
        for a, b in zip(table["rows"], strict_json(one)["rows"]):
            self.assertEqual(a["accuracy"], b["accuracy"])

    def test_faceoff_refuses(self):
        for words in (
            ["--methods", "nonesuch"],
            ["--repeat", "0"],
            ["--seed", "x"],
            ["--folds", "1"],
            ["--set", "epochs=0"],
            ["--set", "nonesuch=1"],
            ["--methods", "crowd_layer", "--set", "alpha=1"],
            ["--threads", "0"],
            ["--nonesuch"],
        ):
            done = command("faceoff", DIGITS, *words, check=2)
            self.assertTrue(done.err.startswith("annotmixd faceoff: "), done.err)
        self.assertIn("instances.csv", command("faceoff", self.folder, check=1).err)

    def test_kinds_and_their_truth(self):
        kinds = "expert=2,careless=3:0.7,class_confuser=1,region_blind=1,spammer=1,constant=1,adversary=1,colluders=2"
        done = self.simulate("k", "--kinds", kinds, "--labels", "3", "--label-test", "--json")
        meta = self.meta("k")
        self.assertEqual(meta["annotators"], 12)
        self.assertEqual(len(meta["bad_annotators"]), 5)
        self.assertEqual(meta["annotator_accuracy"]["careless-2"], 0.7)
        labels = list(csv.DictReader(io.StringIO(self.read("k", "labels.csv").decode())))
        self.assertEqual(len(labels), 3 * meta["instances"]["train"])
        self.assertEqual(len(self.read("k", "labels_test.csv").decode().split()) - 1, 3 * meta["instances"]["test"])
        with open(os.path.join(DIGITS, "instances.csv"), "rb") as file:
            self.assertEqual(self.read("k", "instances.csv"), file.read())
        gold = {r["instance"]: r["class"] for r in csv.DictReader(io.StringIO(self.read("k", "gold.csv").decode()))}
        said = {}
        for label in labels:
            said.setdefault(label["worker"], []).append((label["task"], label["label"]))
        for annotator, given in said.items():
            right = sum(gold[i] == c for i, c in given) / len(given)
            self.assertLess(abs(right - meta["annotator_accuracy"][annotator]), 0.12, annotator)
            for row in meta["annotator_confusion"][annotator]:
                self.assertAlmostEqual(sum(row), 1, delta=1e-4)
        self.assertEqual(len({c for _, c in said["constant-1"]}), 1)
        both = dict(said["colluders-1"])
        shared = [(c, both[i]) for i, c in said["colluders-2"] if i in both]
        self.assertTrue(shared and all(a == b for a, b in shared), "colluders give the same labels")
        self.assertEqual(strict_json(done.out.splitlines()[-1])["labels"], len(labels))
        fit = command("fit", self.path("k"), "--set", "epochs=1", "--set", "hidden=8", "--json", check=0)
        self.assertEqual(strict_json(fit.out.splitlines()[-1])["labels_used"], len(labels))

    def test_seed_decides(self):
        for out, seed in (("a", "5"), ("b", "5"), ("c", "6")):
            self.simulate(out, "--networks", "--annotators", "3", "--labels", "1-2", "--seed", seed)
        for name in ("labels.csv", "meta.json", "gold.csv"):
            self.assertEqual(self.read("a", name), self.read("b", name))
        self.assertNotEqual(self.read("a", "labels.csv"), self.read("c", "labels.csv"))
        self.assertEqual(set(self.meta("a")["annotator_kind"].values()), {"network"})

    def test_attack_reaches_its_share(self):
        with open(os.path.join(DIGITS, "labels.csv"), encoding="utf-8") as file:
            before = file.read()
        kinds = {"random": "spammer", "flip": "adversary", "collude": "colluders", "constant": "constant"}
        for attack, kind in kinds.items():
            self.simulate(attack, "--attack", attack, "--share", "25%")
            labels = self.read(attack, "labels.csv").decode()
            self.assertTrue(labels.startswith(before), "the labels that were there stay, in their order")
            rows = list(csv.DictReader(io.StringIO(labels)))
            bad = [r for r in rows if r["worker"].startswith("attacker-")]
            self.assertAlmostEqual(len(bad) / len(rows), 0.25, places=3)
            self.assertEqual(len({(r["task"], r["worker"]) for r in rows}), len(rows))
            meta = self.meta(attack)
            self.assertEqual({meta["annotator_kind"][a] for a in meta["bad_annotators"]}, {kind})
            self.assertEqual(meta["annotator_accuracy"]["expert-1"], 0.9711, "what was known before stays known")
        self.simulate("twice", "--attack", "flip", "--share", "0.1", source=self.path("flip"))
        self.assertGreater(len(self.meta("twice")["annotator_kind"]), len(self.meta("flip")["annotator_kind"]))

    def test_simulate_refuses_and_leaves_nothing(self):
        for words in (
            [],
            ["--networks", "--kinds", "expert=1"],
            ["--kinds", "nonesuch=1"],
            ["--kinds", "expert"],
            ["--kinds", "expert=x"],
            ["--kinds", "expert=1:2"],
            ["--kinds", "spammer=1:0.5"],
            ["--kinds", "expert=0"],
            ["--kinds", "expert=50%,spammer=1"],
            ["--kinds", "expert=50%"],
            ["--kinds", "expert=1", "--labels", "2"],
            ["--kinds", "expert=5", "--labels", "4-2"],
            ["--kinds", "expert=5", "--share", "0.1"],
            ["--attack", "flip"],
            ["--attack", "nonesuch", "--share", "0.1"],
            ["--attack", "flip", "--share", "1"],
            ["--attack", "flip", "--share", "0.1", "--labels", "3"],
            ["--networks", "--hidden", "0"],
            ["--networks", "--seed", "-1"],
        ):
            done = self.simulate("out", *words, check=2)
            self.assertTrue(done.err.startswith("annotmixd simulate: "), done.err)
            self.assertFalse(os.path.exists(self.path("out")), words)
        self.assertEqual(command("simulate", DIGITS, "--networks", check=2).out, "")
        self.simulate("here", "--kinds", "expert=4")
        before = self.read("here", "labels.csv")
        self.assertIn("exists", self.simulate("here", "--kinds", "expert=5", check=1).err)
        self.assertEqual(self.read("here", "labels.csv"), before)
        self.assertIn("instances", self.simulate("x", "--kinds", "expert=4", source=self.path("none"), check=1).err)
