"""Runs of every method: their own settings, folds, what gold may do, which metrics stand where, and activation."""

import synth
from harness import Case, until

BASE = {"hidden": [], "epochs": 6, "batch_size": 16, "dropout": 0}


class Methods(Case):
    weight = 4
    args = ("--trainers", "2")

    @classmethod
    def prepare(cls):
        cls.crowd = synth.Crowd(120)
        cls.train = [i["id"] for i in cls.crowd.instances if i["split"] == "train"]

    def loaded(self, gold=True, crowd=None, **more):
        path = self.project(dim=2, **more)
        (crowd or self.crowd).load(self.api, path, gold)
        return path, path.rsplit("/", 1)[1]

    def names(self):
        return [m["name"] for m in self.api.get("/v1/methods", expect=200).json["items"]]

    def run_of(self, path, expect=202, **request):
        request.setdefault("settings", BASE)
        return self.api.post(path + "/training-runs", request, expect=expect).json

    def test_every_method_trains_predicts_and_judges_annotators(self):
        path, name = self.loaded()
        for method in self.names():
            if method in ("auto", "ground_truth"):
                continue
            run = self.api.wait(name, self.run_of(path, method=method, folds=2)["id"])
            self.assertEqual((run["method"], run["folds"], run["error"]), (method, 2, None))
            self.assertIsNotNone(run["metrics"]["held_out"], method)
            self.assertEqual(run["metrics"]["train"]["basis"], "out_of_fold")
            self.assertIsNotNone(run["metrics"]["temperature"], method)
            answer = self.api.post(
                path + "/predict",
                {
                    "instances": [{"features": [0, 2]}],
                    "annotators": ["expert", "nobody"],
                    "return": ["p_class", "p_perf", "p_annotation", "p_confusion"],
                },
                expect=200,
            ).json["predictions"][0]
            self.assertAlmostEqual(sum(answer["p_class"]), 1, places=4)
            for who in ("expert", "nobody"):
                self.assertTrue(0 <= answer["annotators"][who]["p_perf"] <= 1, method)
                self.assertAlmostEqual(sum(answer["annotators"][who]["p_annotation"]), 1, places=3)
            file = self.api.get(path + "/models/%d/file" % run["model"], expect=200).body
            self.assertEqual(file[:8], b"AMXMODEL")

    def test_ground_truth_trains_on_gold_and_says_what_is_missing(self):
        path, name = self.loaded(gold=False)
        self.assertIn(
            "gold",
            self.problem(
                self.api.post(path + "/training-runs", {"method": "ground_truth"}), 409, "nothing-to-train"
            )["detail"],
        )
        self.api.ndjson(
            path + "/gold", [{"instance": i, "class": c} for i, c in self.crowd.gold.items()], expect=(200, 201)
        )
        run = self.api.wait(name, self.run_of(path, method="ground_truth", settings={**BASE, "epochs": 60})["id"])
        self.assertNotIn("train", run["metrics"])  # gold it has seen is no measure of it
        self.assertGreater(run["metrics"]["test"]["accuracy"], 0.8)

    def test_settings_of_another_method_are_422_with_pointer(self):
        path, name = self.loaded()
        for method, setting, value in [
            ("annot_mix", "soft", True),
            ("annot_mix", "prior_strength", 1),
            ("annot_mix_prior", "eta", 0.9),
            ("majority_vote", "alpha", 1),
            ("dawid_skene_mixup", "annotator_embedding", 8),
            ("ground_truth", "annotator_learning_rate", 0.1),
        ]:
            answer = self.api.post(path + "/training-runs", {"method": method, "settings": {setting: value}})
            self.problem(answer, 422, "invalid-setting", pointer="/settings/" + setting, says="another method")
        for field in ("budget_seconds", "budget_fits"):
            self.problem(
                self.api.post(path + "/training-runs", {field: 5}), 422, "invalid-setting", pointer="/" + field
            )
        self.assertEqual(self.api.get(path + "/training-runs").json["items"], [])

    def test_project_defaults_of_another_method_are_left_out(self):
        training = {"method": "annot_mix", "settings": {**BASE, "alpha": 0.5, "eta": 0.8}}
        path, name = self.loaded(settings={"training": training})
        run = self.run_of(path, method="majority_vote", settings={"soft": True})
        self.assertEqual((run["settings"]["epochs"], run["settings"]["soft"]), (BASE["epochs"], True))
        self.assertNotIn("alpha", run["settings"])
        self.assertEqual(self.api.wait(name, run["id"])["error"], None)
        own = self.run_of(path, settings={})
        self.assertEqual((own["method"], own["settings"]["alpha"]), ("annot_mix", 0.5))
        for bad, pointer in [
            ({"settings": {"soft": True}}, "/settings/training/settings/soft"),
            ({"method": "none"}, "/settings/training/method"),
            ({"activate": "if_not_worse"}, "/settings/training/activate"),
        ]:
            body = {"name": "q", "classes": ["a", "b"], "feature_dim": 2, "settings": {"training": bad}}
            self.problem(self.api.post("/v1/projects", body), 422, "invalid-setting", pointer=pointer)

    def test_if_not_worse_needs_folds_and_folds_have_limits(self):
        path, _ = self.loaded()
        for body, pointer in [
            ({"activate": "if_not_worse"}, "/activate"),
            ({"activate": "if_not_worse", "folds": 0}, "/activate"),
            ({"folds": 1}, "/folds"),
            ({"folds": 21}, "/folds"),
            ({"method": "auto", "select": "valid", "gold_use": "evaluate"}, "/select"),
            ({"method": "auto", "methods": ["annot_mix", "nothing"]}, "/methods/1"),
        ]:
            self.problem(self.api.post(path + "/training-runs", body), 422, "invalid-setting", pointer=pointer)
        # 422 comes before 409.
        empty = self.project(dim=2)
        self.problem(self.api.post(empty + "/training-runs", {"folds": 1}), 422, "invalid-setting", pointer="/folds")
        self.problem(self.api.post(empty + "/training-runs", {"folds": 2}), 409, "nothing-to-train")

    def test_queued_runs_are_equal_only_in_every_respect(self):
        path, name = self.loaded()
        blocker = self.run_of(path, seed=101, settings={"epochs": 10000, "hidden": [64]})["id"]
        until(lambda: self.api.get(path + "/training-runs/%d" % blocker).json["state"] == "running", "a running run")
        first = self.run_of(path)
        for change in (
            {"folds": 2},
            {"gold_use": "calibrate"},
            {"gold_use": "train"},
            {"activate": "never"},
            {"ensemble": 2},
            {"method": "madl"},
        ):
            other = self.run_of(path, **change)
            self.assertNotEqual(other["id"], first["id"], change)
            self.assertEqual(self.run_of(path, expect=200, **change)["id"], other["id"])
        self.assertEqual(self.run_of(path, expect=200)["id"], first["id"])
        for item in self.api.get(path + "/training-runs").json["items"]:
            self.api.post(path + "/training-runs/%d/cancel" % item["id"], expect=(200, 202))

    def test_metrics_stand_beside_majority_vote_and_say_what_they_rest_on(self):
        path, name = self.loaded()
        plain = self.api.wait(name, self.run_of(path)["id"])["metrics"]
        self.assertEqual((plain["gold_use"], plain["temperature"]), ("evaluate", None))
        self.assertEqual(plain["train"]["basis"], "in_sample")
        self.assertEqual(plain["held_out"]["split"], "test")  # labels of test were never trained on
        self.assertEqual(plain["activation"]["rule"], "always")
        for split in ("train", "test"):
            m = plain[split]
            for share, interval in [
                ("accuracy", "accuracy_interval"),
                ("majority_vote_accuracy", "majority_vote_interval"),
                ("consensus_accuracy", "consensus_interval"),
            ]:
                low, high = m[interval]
                self.assertTrue(0 <= low <= m[share] <= high <= 1, m)
            self.assertLessEqual(m["ece_debiased"], m["ece"])
            self.assertGreater(m["ece_floor"], 0)
        folded = self.api.wait(name, self.run_of(path, folds=3)["id"])["metrics"]
        held = folded["held_out"]
        self.assertEqual((held["split"], held["basis"]), ("train", "out_of_fold"))
        self.assertEqual(held["n"], 3 * len(self.train))
        self.assertEqual(held["test"]["n"], 3 * (120 - len(self.train)))
        self.assertLess(held["label_log_likelihood"], 0)
        self.assertGreater(held["standard_error"], 0)
        self.assertTrue(0.1 <= folded["temperature"] <= 10)
        model = self.api.get(path + "/models/2", expect=200).json
        self.assertEqual(model["metrics"], folded)

    def test_gold_of_train_leaves_the_metrics_when_it_was_used(self):
        path, name = self.loaded()
        metrics = self.api.wait(name, self.run_of(path, method="dawid_skene", gold_use="train")["id"])["metrics"]
        self.assertEqual((metrics["gold_use"], metrics["test"]["gold_use"]), ("train", "train"))
        self.assertNotIn("train", metrics)

    def test_temperature_by_gold_of_valid(self):
        path, name = self.loaded(gold=False)
        valid = self.train[:20]
        self.api.ndjson(path + "/instances", [{"id": i, "split": "valid"} for i in valid], expect=200)
        metrics = self.api.wait(name, self.run_of(path, gold_use="calibrate")["id"])["metrics"]
        self.assertIsNone(metrics["temperature"])  # nothing to calibrate on
        self.assertEqual(metrics["held_out"]["split"], "valid")
        self.api.ndjson(path + "/gold", [{"instance": i, "class": self.crowd.gold[i]} for i in valid], expect=201)
        metrics = self.api.wait(name, self.run_of(path, gold_use="calibrate", seed=2)["id"])["metrics"]
        self.assertTrue(0.1 <= metrics["temperature"] <= 10)
        self.assertEqual(metrics["valid"]["gold_use"], "calibrate")

    def test_gold_under_evaluate_changes_no_byte(self):
        files = {}
        for turned in (False, True):
            path, name = self.loaded(gold=False)
            for i, c in self.crowd.gold.items():
                wrong = synth.CLASSES[(synth.CLASSES.index(c) + 1) % 3]
                self.api.put(path + "/gold/" + i, {"class": wrong if turned else c}, expect=201)
            for method in ("annot_mix", "annot_mix_prior", "dawid_skene_mixup", "ground_truth"):
                settings = {**BASE, "epochs": 2}
                run = self.api.wait(name, self.run_of(path, method=method, folds=2, settings=settings)["id"])
                files.setdefault(method, []).append(self.api.get(path + "/models/%d/file" % run["model"]).body)
        for method, (a, b) in files.items():
            self.assertEqual(a == b, method != "ground_truth", method)

    def test_if_not_worse(self):
        path, name = self.loaded()
        bad = {**BASE, "epochs": 1, "learning_rate": 1e-6, "annotator_learning_rate": 1e-6}
        good = {**BASE, "epochs": 60}

        def run(**request):
            run = self.api.wait(name, self.run_of(path, activate="if_not_worse", **request)["id"])
            self.assertEqual(run["activated"], run["metrics"]["activation"]["activated"])
            return run

        first = run(folds=3, settings=good)
        self.assertTrue(first["activated"])
        self.assertIn("no active model", first["metrics"]["activation"]["reason"])
        worse = run(folds=2, settings=bad, seed=7)
        why = worse["metrics"]["activation"]
        self.assertFalse(worse["activated"], why)
        self.assertEqual((why["active_model"], why["n"]), (first["model"], 3 * len(self.train)))
        self.assertLess(why["difference"], -2 * why["standard_error"])
        self.assertEqual(self.api.get(path).json["active_model"], first["model"])
        again = run(folds=4, settings=good, seed=8)
        self.assertTrue(again["activated"], again["metrics"]["activation"])
        # A model without folds cannot be compared with: the new one takes its place, and says so.
        plain = self.api.wait(name, self.run_of(path, settings=good)["id"])
        self.assertEqual(self.api.get(path).json["active_model"], plain["model"])
        after = run(folds=2, settings=bad, seed=9)
        self.assertTrue(after["activated"])
        self.assertIn("no folds", after["metrics"]["activation"]["reason"])
        self.assertIsNone(after["metrics"]["activation"]["difference"])

    def test_the_rule_of_a_project_compares(self):
        path = self.project(
            dim=2, settings={"auto_train": {"every_labels": 100}, "training": {"settings": BASE}}
        )
        self.api.ndjson(path + "/instances", self.crowd.instances, expect=201)
        self.api.ndjson(path + "/labels", self.crowd.labels, expect=201)
        runs = until(lambda: self.api.get(path + "/training-runs").json["items"], "a run by the rule")
        run = self.api.wait(path.rsplit("/", 1)[1], runs[-1]["id"])
        self.assertEqual((run["folds"], run["activate"], run["activated"]), (5, "if_not_worse", True))

    def test_labels_on_valid_and_test_alone_are_nothing_to_train_on(self):
        path = self.project(dim=2)
        rows = [
            dict(
                i,
                split=("valid", "test")[n % 2],
                labels=[{"annotator": "a", "class": self.crowd.gold[i["id"]]}],
                gold=self.crowd.gold[i["id"]],
            )
            for n, i in enumerate(self.crowd.instances[:20])
        ]
        self.api.ndjson(path + "/instances", rows, expect=201)
        for method in ("annot_mix", "dawid_skene", "ground_truth"):
            self.problem(self.api.post(path + "/training-runs", {"method": method}), 409, "nothing-to-train")

    def test_gold_against_every_label_and_one_annotator(self):
        path = self.project(classes=("cat", "dog"), dim=2)
        rows = [
            {
                "id": "i%d" % n,
                "features": [n % 2 * 4.0, n / 40],
                "labels": [{"annotator": "only", "class": ("cat", "dog")[n % 2]}],
                "gold": ("dog", "cat")[n % 2],
            }
            for n in range(40)
        ]
        self.api.ndjson(path + "/instances", rows, expect=201)
        name = path.rsplit("/", 1)[1]
        for method in ("annot_mix", "dawid_skene", "majority_vote_mixup", "annot_mix_prior", "madl"):
            for gold_use in ("evaluate", "train"):
                settings = {**BASE, "epochs": 40, "learning_rate": 0.05}
                run = self.api.wait(
                    name, self.run_of(path, method=method, gold_use=gold_use, folds=2, settings=settings)["id"]
                )
                self.assertEqual("train" in run["metrics"], gold_use == "evaluate")
        if_known = self.api.get(path + "/reliability", expect=200).json
        self.assertEqual(len(if_known["items"]), 1)
