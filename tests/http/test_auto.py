"""Method auto: request, progress, cancel, the table of candidates, and that gold of test touches nothing."""

import synth
from harness import until

QUICK = {"hidden": [8], "annotator_embedding": 8, "epochs": 9}
RISKS = {"class", "class_share", "class_odds", "class_odds_share", "label", "label_confidence", "label_odds"}
REQUEST = {
    "method": "auto",
    "seed": 3,
    "budget_fits": 3,
    "methods": ["annot_mix", "majority_vote_mixup"],
    "settings": QUICK,
}


class Auto(synth.CrowdCase):
    weight = 3
    args = ("--trainers", "2")
    crowd_size = 80

    def run_of(self, path, name, body=None, state="succeeded"):
        run = self.api.post(path + "/training-runs", body or REQUEST, expect=202).json
        run = self.api.wait(name, run["id"], state)
        return run

    def model_hash(self, path, number):
        return self.api.call("GET", path + "/models/%d/file" % number).body

    def test_chooses_and_tells_how(self):
        path, name = self.loaded()
        run = self.run_of(path, name)
        self.assertEqual((run["method"], run["model"], run["error"]), ("auto", 1, None))
        selection = run["selection"]
        self.assertEqual((selection["select"], selection["budget_fits"], selection["folds"]), ("crowd", 3, 5))
        rows = selection["candidates"]
        self.assertEqual(len(rows), selection["n_candidates"])
        self.assertEqual(sum(1 for r in rows if r["published"]), 3)
        self.assertIn("dawid_skene", {r["method"] for r in rows if r["settings"]["hidden"] == []})
        best = rows[0]
        self.assertEqual((best["method"], best["state"]), (selection["method"], "finished"))
        for row in rows:
            self.assertEqual(set(row["risks"]), RISKS)
            self.assertEqual(set(row["ranks"]), RISKS)
            self.assertAlmostEqual(row["score"], sum(row["ranks"].values()) / 7, places=6)
            self.assertTrue(all(0 <= r <= 1 for r in row["risks"].values()), row)
            self.assertIsNone(row["valid_error"])
        same_rung = [r["score"] for r in rows if r["rung"] == best["rung"]]
        self.assertEqual(same_rung, sorted(same_rung))
        model = self.api.get(path + "/models/1").json
        self.assertEqual(model["method"], selection["method"])
        self.assertEqual(model["settings"]["epochs"], 9)
        self.assertEqual(model["selection"], selection)
        self.assertNotIn("selection", model["metrics"])
        self.assertIn("test", run["metrics"])
        self.assertEqual(len(run["loss_curve"]), 9)
        answer = self.api.post(path + "/predict", {"instances": [{"features": [0.0, 2.0]}]}).json
        self.assertEqual(answer["model"], 1)

    def test_other_methods_have_no_selection(self):
        path, name = self.loaded()
        run = self.run_of(path, name, {"settings": QUICK})
        self.assertIsNone(run["selection"])
        self.assertIsNone(self.api.get(path + "/models/1").json["selection"])

    def test_gold_of_test_touches_nothing(self):
        """Rotating the gold of every test instance leaves the choice and the model's bytes as they were."""
        seen = []
        for turn in range(2):
            path, name = self.loaded(gold=False)
            classes = synth.CLASSES
            gold = {i: classes[(classes.index(c) + turn) % 3] for i, c in self.crowd.gold.items()}
            self.api.ndjson(
                path + "/gold", [{"instance": i, "class": c} for i, c in gold.items()], expect=(200, 201)
            )
            run = self.run_of(path, name)
            table = [
                {k: v for k, v in row.items() if k != "seconds"} for row in run["selection"]["candidates"]
            ]
            seen.append((table, self.model_hash(path, 1), run["metrics"]["test"]["accuracy"]))
        self.assertEqual(seen[0][0], seen[1][0])
        self.assertEqual(seen[0][1], seen[1][1])
        self.assertNotEqual(seen[0][2], seen[1][2], "the metrics do read it")

    def test_select_valid(self):
        path, name = self.loaded()
        body = dict(REQUEST, select="valid", gold_use="calibrate")
        run = self.run_of(path, name, body, "failed")
        self.assertIn("valid", run["error"])
        held = [i["id"] for i in self.crowd.instances if i["split"] == "test"]
        for one in held:
            self.api.ndjson(path + "/instances", [{"id": one, "split": "valid"}], expect=(200, 201))
        run = self.run_of(path, name, dict(body, seed=4))
        rows = [r for r in run["selection"]["candidates"] if r["state"] == "finished"]
        self.assertEqual(rows[0]["valid_error"], min(r["valid_error"] for r in rows))
        self.api.post(path + "/training-runs", dict(REQUEST, select="valid", gold_use="evaluate"), expect=422)

    def test_progress_and_cancel(self):
        path, name = self.loaded()
        body = dict(REQUEST, budget_fits=1000, settings=dict(QUICK, epochs=2000))
        run = self.api.post(path + "/training-runs", body, expect=202).json
        at = path + "/training-runs/%d" % run["id"]
        seen = until(lambda: self.searching(at), "candidates in the progress")
        self.assertTrue(0 <= seen["fraction"] <= 1, seen)
        self.assertEqual(seen["rung"], 0)
        self.api.post(at + "/cancel", expect=202)
        run = self.api.wait(name, run["id"], "cancelled")
        self.assertEqual((run["model"], run["selection"]), (None, None))

    def searching(self, at):
        progress = self.api.get(at).json["progress"]
        return progress if progress.get("candidates") else None

    def test_budget_too_small(self):
        path, name = self.loaded()
        body = dict(REQUEST, budget_seconds=0.001, settings=dict(QUICK, epochs=10000))
        del body["budget_fits"]
        run = self.run_of(path, name, body, "failed")
        self.assertIn("budget_seconds", run["error"])
        self.assertIn("at least", run["error"])
        for wrong in ({"budget_fits": 0}, {"budget_seconds": 0}, {"select": "test"}, {"methods": []},
                      {"methods": ["astrology"]}, {"methods": ["ground_truth"]}):
            problem = self.api.post(path + "/training-runs", dict(REQUEST, **wrong), expect=422).json
            self.assertTrue(problem["errors"][0]["pointer"].startswith("/" + list(wrong)[0]), problem)
        self.api.post(path + "/training-runs", {"budget_fits": 5}, expect=422)
        answer = self.api.post(path + "/training-runs", {"method": "auto", "budget_fits": 1}, expect=422)
        self.assertIn("at least 2", answer.json["errors"][0]["detail"])

    def test_equal_requests_coalesce(self):
        path, _ = self.loaded()
        slow = dict(REQUEST, budget_fits=1000, settings=dict(QUICK, epochs=2000))
        first = self.api.post(path + "/training-runs", slow, expect=202).json
        second = self.api.post(path + "/training-runs", dict(slow, seed=9), expect=202).json
        again = self.api.post(path + "/training-runs", dict(slow, seed=9), expect=200).json
        self.assertEqual(again["id"], second["id"])
        other = self.api.post(path + "/training-runs", dict(slow, seed=9, budget_fits=999), expect=202).json
        for run in (other, second, first):
            self.api.call("POST", path + "/training-runs/%d/cancel" % run["id"], expect=(200, 202))
