"""Labels alone: every method of consensus, runs of projects without features, agreement."""

import csv
import io
import random

from harness import Case, quote, until

METHODS = ["majority_vote", "wawa", "zero_based_skill", "dawid_skene", "one_coin_dawid_skene", "glad", "mace", "m_msr"]
CLASSES = ["cat", "dog", "rabbit"]
SKILL = {"ana": 0.95, "bob": 0.85, "cem": 0.75, "dee": 0.65, "eve": 0.4}


def labels(n=120, classes=CLASSES, seed=1, per_instance=4):
    rng = random.Random(seed)
    truth, rows = {}, []
    for i in range(n):
        name = "x%03d" % i
        truth[name] = rng.choice(classes)
        for a in rng.sample(sorted(SKILL), per_instance):
            right = rng.random() < SKILL[a]
            given = truth[name] if right else rng.choice([c for c in classes if c != truth[name]])
            rows.append({"instance": name, "annotator": a, "class": given})
    return truth, rows


class LabelOnly(Case):
    weight = 2

    @classmethod
    def prepare(cls):
        cls.truth, cls.rows = labels()
        cls.path = "/v1/projects/bare"
        cls.api.post("/v1/projects", {"name": "bare", "classes": CLASSES}, expect=201)
        cls.api.ndjson(cls.path + "/labels", cls.rows, expect=(200, 201))

    def accuracy(self, items, truth=None):
        truth = truth or self.truth
        return sum(i["class"] == truth[i["instance"]] for i in items) / len(items)

    # ---- ?method= ----

    def test_every_method_of_consensus(self):
        for method in METHODS:
            body = self.api.get(self.path + "/consensus?limit=500&method=" + method, expect=200).json
            self.assertEqual((body["method"], body["model"]), (method, None))
            self.assertEqual({i["basis"] for i in body["items"]}, {"labels_only"})
            self.assertGreater(self.accuracy(body["items"]), 0.8, method)
            for item in body["items"]:
                self.assertLess(abs(sum(item["posterior"]) - 1), 1e-4, (method, item))
                self.assertIsNotNone(item["resolved"])
            pages = self.api.pages(self.path + "/consensus?method=" + method, 50)
            self.assertEqual(pages, body["items"])
            text = self.api.get(self.path + "/consensus?format=csv&method=" + method, expect=200).body.decode()
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
            self.assertEqual([r["class"] for r in rows], [i["class"] for i in body["items"]])

    def test_kos_wants_two_classes(self):
        answer = self.api.get(self.path + "/consensus?method=kos")
        self.assertIn("two", self.problem(answer, 422, "invalid-setting")["detail"])
        path = self.project(classes=["no", "yes"])
        truth, rows = labels(80, ["no", "yes"], seed=3)
        self.api.ndjson(path + "/labels", rows, expect=(200, 201))
        items = self.api.get(path + "/consensus?method=kos&limit=200", expect=200).json["items"]
        self.assertGreater(self.accuracy(items, truth), 0.75)

    def test_unknown_method_names_the_known(self):
        detail = self.problem(self.api.get(self.path + "/consensus?method=gladd"), 422, "invalid-setting")["detail"]
        for name in METHODS + ["kos", "crowdlab"]:
            self.assertIn(name, detail)

    def test_a_view_follows_the_labels(self):
        path = self.project()
        self.api.ndjson(path + "/labels", self.rows, expect=(200, 201))
        before = self.api.get(path + "/consensus/x000?method=glad", expect=200).json
        for a in SKILL:
            body = {"instance": "x000", "annotator": a, "class": "rabbit" if before["class"] != "rabbit" else "cat"}
            self.api.post(path + "/labels", body, expect=(200, 201))
        after = self.api.get(path + "/consensus/x000?method=glad", expect=200).json
        self.assertNotEqual(before["class"], after["class"])
        self.assertGreater(after["as_of"]["label_seq"], before["as_of"]["label_seq"])

    def test_no_labels_and_one_label(self):
        path = self.project()
        for method in METHODS + ["kos"]:
            self.assertEqual(self.api.get(path + "/consensus?method=" + method, expect=200).json["items"], [])
        self.api.post(path + "/labels", {"instance": "i", "annotator": "a", "class": "dog"}, expect=201)
        self.api.post(path + "/instances", {"instances": [{"id": "j"}]}, expect=201)
        for method in METHODS:
            items = self.api.get(path + "/consensus?method=" + method, expect=200).json["items"]
            self.assertEqual([i["class"] for i in items], ["dog", None], method)

    # ---- runs ----

    def test_run_of_every_method(self):
        path = self.project()
        name = path.rsplit("/", 1)[1]
        self.api.ndjson(path + "/labels", self.rows, expect=(200, 201))
        gold = [{"instance": i, "class": c} for i, c in self.truth.items()]
        self.api.ndjson(path + "/gold", gold, expect=(200, 201))
        for number, method in enumerate(METHODS, 1):
            run = self.api.post(path + "/training-runs", {"method": method}, expect=202).json
            run = self.api.wait(path.rsplit("/", 1)[1], run["id"])
            self.assertEqual((run["method"], run["model"], run["activated"]), (method, number, True))
            self.assertEqual((run["labels_used"], run["instances_used"], run["settings"]), (480, 120, {}))
            items = self.api.get(path + "/consensus?limit=500", expect=200).json
            self.assertEqual((items["model"], items["method"]), (number, None))
            self.assertEqual({i["basis"] for i in items["items"]}, {"labels_only"})
            accuracy = self.accuracy(items["items"])
            self.assertGreater(accuracy, 0.8, method)
            self.assertLess(abs(run["metrics"]["train"]["accuracy"] - accuracy), 1e-9)
            direct = self.api.get(path + "/consensus?limit=500&method=" + method, expect=200).json["items"]
            if method in ("majority_vote", "dawid_skene", "glad", "wawa"):  # no random numbers in them
                self.assertEqual([i["class"] for i in direct], [i["class"] for i in items["items"]], method)
            reliability = self.api.get(path + "/reliability", expect=200).json
            self.assertEqual(reliability["model"], number)
            by = {i["annotator"]: i for i in reliability["items"]}
            self.assertGreater(by["ana"]["reliability"], by["eve"]["reliability"], method)
            self.assertEqual(by["ana"]["evidence"], sum(r["annotator"] == "ana" for r in self.rows))
        model = self.api.get(path + "/models/%d" % len(METHODS), expect=200).json
        self.assertEqual((model["method"], model["active"], model["folds"]), (METHODS[-1], True, 0))
        self.assertEqual(len(self.api.get("/v1/projects/%s/models" % name, expect=200).json["items"]), len(METHODS))

    def trained(self, **request):
        path = self.project()
        self.api.ndjson(path + "/labels", self.rows, expect=(200, 201))
        run = self.api.post(path + "/training-runs", request or None, expect=202).json
        return path, self.api.wait(path.rsplit("/", 1)[1], run["id"])

    def test_default_is_dawid_skene_and_the_result_stays(self):
        path, run = self.trained()
        self.assertEqual(run["method"], "dawid_skene")
        before = self.api.get(path + "/consensus/x000", expect=200).json
        one = self.api.get(path + "/reliability/ana", expect=200).json
        self.assertEqual(one["basis"], "model")
        for row in one["confusion"]:
            self.assertLess(abs(sum(row) - 1), 1e-5)
        at = self.api.get(path + "/reliability/ana?instance=x000", expect=200).json["at_instance"]
        self.assertEqual((at["instance"], at["p_perf"]), ("x000", None))
        # New labels do not change what the run said, and as_of says so; a new instance has its votes.
        other = "cat" if before["class"] != "cat" else "dog"
        for a in ("n1", "n2", "n3", "n4", "n5", "n6"):
            self.api.post(path + "/labels", {"instance": "x000", "annotator": a, "class": other}, expect=201)
        self.api.post(path + "/labels", {"instance": "new", "annotator": "ana", "class": "dog"}, expect=201)
        after = self.api.get(path + "/consensus/x000", expect=200).json
        self.assertEqual((after["posterior"], after["as_of"]), (before["posterior"], before["as_of"]))
        self.assertEqual(self.api.get(path + "/consensus/new", expect=200).json["class"], "dog")
        self.assertEqual(self.api.get(path + "/reliability/n1", expect=200).json["evidence"], 0)

    def test_filters_of_instances_follow_the_run(self):
        path, _ = self.trained()
        for query in ("resolved=true", "disputed=true"):
            wanted = [i["instance"] for i in self.api.pages(path + "/consensus?" + query, 40)]
            self.assertEqual([i["id"] for i in self.api.pages(path + "/instances?" + query, 40)], wanted)
            self.assertGreater(len(wanted), 5)

    def test_it_predicts_nothing_and_has_no_file(self):
        path, run = self.trained(method="glad")
        for answer in (
            self.api.post(path + "/predict", {"instances": [{"id": "x000"}]}),
            self.api.get(path + "/predictions"),
        ):
            self.assertIn("labels alone", self.problem(answer, 409, "no-model")["detail"])
        detail = self.problem(self.api.get(path + "/models/%d/file" % run["model"]), 409, "conflict")["detail"]
        self.assertIn("no model file", detail)
        self.api.post(path + "/models/%d/activate" % run["model"], expect=200)

    def test_requests_that_do_not_fit(self):
        path = self.project()
        self.api.ndjson(path + "/labels", self.rows[:8], expect=(200, 201))
        for body, pointer in [
            ({"method": "annot_mix"}, "/method"),
            ({"folds": 5}, "/folds"),
            ({"ensemble": 2}, "/ensemble"),
            ({"settings": {"epochs": 3}}, "/settings/epochs"),
        ]:
            self.problem(self.api.post(path + "/training-runs", body), 422, "invalid-setting", pointer=pointer)
        features = self.project(dim=2)
        self.problem(self.api.post(features + "/training-runs", {"method": "glad"}), 422, "invalid-setting", "/method")
        empty = self.project()
        self.problem(self.api.post(empty + "/training-runs"), 409, "nothing-to-train")

    def test_a_method_that_cannot_fails_its_run_alone(self):
        path = self.project()
        self.api.ndjson(path + "/labels", self.rows, expect=(200, 201))
        run = self.api.post(path + "/training-runs", {"method": "kos"}, expect=202).json
        run = self.api.wait(path.rsplit("/", 1)[1], run["id"], "failed")
        self.assertIn("two", run["error"])

    def test_gold_holds_only_under_gold_use_train(self):
        wrong = {i: CLASSES[(CLASSES.index(c) + 1) % 3] for i, c in list(self.truth.items())[:10]}
        found = {}
        for use in ("evaluate", "train"):
            path = self.project()
            self.api.ndjson(path + "/labels", self.rows, expect=(200, 201))
            gold = [{"instance": i, "class": c} for i, c in wrong.items()]
            self.api.ndjson(path + "/gold", gold, expect=(200, 201))
            run = self.api.post(path + "/training-runs", {"gold_use": use}, expect=202).json
            run = self.api.wait(path.rsplit("/", 1)[1], run["id"])
            self.assertEqual("train" in run["metrics"], use == "evaluate")
            found[use] = {i["instance"]: i["class"] for i in self.api.pages(path + "/consensus", 100)}
        self.assertTrue(all(found["train"][i] == c for i, c in wrong.items()))
        self.assertFalse(all(found["evaluate"][i] == c for i, c in wrong.items()))

    def test_the_project_names_the_method_and_the_rule_runs_it(self):
        settings = {"training": {"method": "one_coin_dawid_skene"}, "auto_train": {"every_labels": 200}}
        path = self.project(settings=settings)
        self.api.ndjson(path + "/labels", self.rows, expect=(200, 201))
        ended = lambda: [r for r in self.api.get(path + "/training-runs").json["items"] if r["finished_at"]]
        run = until(ended, "a run by rule")[-1]
        self.assertEqual((run["state"], run["method"], run["activated"]), ("succeeded", "one_coin_dawid_skene", True))
        self.assertIsNotNone(self.api.get(path + "/consensus/x000", expect=200).json["model"])

    def test_survives_a_restart(self):
        path, _ = self.trained(method="mace")
        before = self.api.get(path + "/consensus?limit=300", expect=200).json
        self.server.stop()
        self.server.start()
        self.api.close()
        after = self.api.get(path + "/consensus?limit=300", expect=200).json
        self.assertEqual(after, before)

    # ---- agreement ----

    def test_agreement(self):
        answer = self.api.get(self.path + "/agreement", expect=200)
        body = answer.json
        self.assertEqual((body["model"], body["classes"]), (None, CLASSES))
        self.assertEqual((body["n"], body["labels"], body["annotators"]), (120, 480, 5))
        self.assertTrue(0.2 < body["krippendorff_alpha"] < 0.8 and 0.2 < body["fleiss_kappa"] < 0.8)
        given = {(r["instance"], r["annotator"]): r["class"] for r in self.rows}
        names = sorted(SKILL)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        self.assertEqual([(p["annotator_a"], p["annotator_b"]) for p in body["items"]], pairs)
        for p in body["items"]:
            common = [i for i in self.truth if (i, p["annotator_a"]) in given and (i, p["annotator_b"]) in given]
            both = [(given[i, p["annotator_a"]], given[i, p["annotator_b"]]) for i in common]
            agreed = sum(a == b for a, b in both) / len(both)
            chance = sum(
                sum(a == k for a, _ in both) * sum(b == k for _, b in both) / len(both) ** 2 for k in CLASSES
            )
            self.assertEqual(p["n"], len(common))
            self.assertLess(abs(p["agreement"] - agreed), 1e-9)
            self.assertLess(abs(p["cohen_kappa"] - (agreed - chance) / (1 - chance)), 1e-9)
        # Fleiss by hand: four labels each.
        votes = {}
        for r in self.rows:
            votes.setdefault(r["instance"], []).append(r["class"])
        observed = sum(sum(v.count(k) * (v.count(k) - 1) for k in CLASSES) / 12 for v in votes.values()) / len(votes)
        chance = sum((sum(v.count(k) for v in votes.values()) / 480) ** 2 for k in CLASSES)
        self.assertLess(abs(body["agreement"] - observed), 1e-9)
        self.assertLess(abs(body["fleiss_kappa"] - (observed - chance) / (1 - chance)), 1e-9)
        alpha = 1 - (1 - observed) / ((1 - chance) * 480 / 479)
        self.assertLess(abs(body["krippendorff_alpha"] - alpha), 1e-9)
        self.api.get(self.path + "/agreement", headers={"If-None-Match": answer.header("ETag")}, expect=304)
        self.assertEqual(self.api.head(self.path + "/agreement").status, 200)

    def test_agreement_paged_and_streamed(self):
        items = self.api.get(self.path + "/agreement", expect=200).json["items"]
        for limit in (1, 3, 4, 1000):
            self.assertEqual(self.api.pages(self.path + "/agreement", limit), items)
        lines = self.api.get(self.path + "/agreement?format=ndjson", expect=200).lines
        self.assertEqual(lines, items)
        text = self.api.get(self.path + "/agreement", headers={"Accept": "text/csv"}, expect=200).body.decode()
        rows = list(csv.reader(io.StringIO(text, newline="")))
        self.assertEqual(rows[0], ["annotator_a", "annotator_b", "n", "agreement", "cohen_kappa"])
        self.assertEqual([r[:3] for r in rows[1:]], [[i["annotator_a"], i["annotator_b"], str(i["n"])] for i in items])

    def test_agreement_where_there_is_none(self):
        path = self.project()
        body = self.api.get(path + "/agreement", expect=200).json
        figures = ("krippendorff_alpha", "fleiss_kappa", "agreement")
        self.assertEqual([body[f] for f in figures], [None] * 3)
        self.assertEqual((body["n"], body["items"], body["next_cursor"]), (0, [], None))
        for i in range(3):  # nobody shares an instance
            row = {"instance": "i%d" % i, "annotator": "a%d" % i, "class": "cat"}
            self.api.post(path + "/labels", row, expect=201)
        body = self.api.get(path + "/agreement", expect=200).json
        self.assertEqual((body["n"], body["annotators"], body["items"]), (0, 3, []))
        self.api.post(path + "/labels", {"instance": "i0", "annotator": "=b", "class": "cat"}, expect=201)
        body = self.api.get(path + "/agreement", expect=200).json  # one class only: chance explains everything
        self.assertEqual((body["n"], body["agreement"], body["fleiss_kappa"]), (1, 1, None))
        self.assertEqual(body["items"][0]["cohen_kappa"], None)
        self.assertIn("'=b", self.api.get(path + "/agreement?format=csv", expect=200).body.decode())
        self.problem(self.api.get(path + "/agreement?cursor=nonsense"), 400, "invalid-query")
        self.problem(self.api.get(path + "/agreement?id=a"), 400, "invalid-query")
        self.problem(self.api.get("/v1/projects/%s/agreement" % quote("nobody")), 404, "unknown-project")
        self.assertEqual(self.api.post(path + "/agreement", {}, check=False).status, 405)

    def test_a_cursor_outlives_new_labels_but_not_its_annotators(self):
        path = self.project()
        self.api.ndjson(path + "/labels", self.rows, expect=(200, 201))
        first = self.api.get(path + "/agreement?limit=2", expect=200).json
        self.api.post(path + "/labels", {"instance": "x000", "annotator": "abe", "class": "cat"}, expect=201)
        rest = self.api.get(path + "/agreement?limit=100&cursor=" + first["next_cursor"], expect=200).json["items"]
        self.assertEqual((rest[0]["annotator_a"], rest[0]["annotator_b"]), ("ana", "dee"))
        self.api.delete(path + "/annotators/ana", expect=204)
        self.problem(self.api.get(path + "/agreement?cursor=" + first["next_cursor"]), 400, "invalid-query")
