"""Predict, predictions, reliability, consensus: with a model and without."""

import csv
import io
import struct

import synth
from harness import Case, quote


class Answers(Case):
    weight = 3

    @classmethod
    def prepare(cls):
        cls.crowd = synth.Crowd(240, seed=4)
        cls.path = "/v1/projects/answers"
        cls.api.post("/v1/projects", {"name": "answers", "classes": synth.CLASSES, "feature_dim": 2}, expect=201)
        cls.crowd.load(cls.api, cls.path)
        cls.run_ = cls.api.train("answers", settings={"epochs": 150, "hidden": [16], "annotator_embedding": 32})
        cls.seq = cls.api.get(cls.path).json["label_seq"]

    def ask(self, body, **more):
        return self.api.post(self.path + "/predict", body, **more)

    def near(self, a, b, tolerance=2e-5):
        self.assertLessEqual(abs(a - b), tolerance)

    # ---- predict ----

    def test_predict_as_on_the_wire(self):
        body = self.ask(
            {
                "instances": [{"features": [0.1, 2.0]}, {"id": "i0003"}],
                "annotators": ["expert", "new-one"],
                "return": ["p_class", "p_perf", "p_annotation", "p_confusion"],
            },
            expect=200,
        ).json
        self.assertEqual((body["model"], body["classes"], body["as_of"]["label_seq"]), (1, synth.CLASSES, self.seq))
        first, second = body["predictions"]
        self.assertNotIn("id", first)
        self.assertEqual(second["id"], "i0003")
        for p in (first, second):
            self.near(sum(p["p_class"]), 1)
            self.assertEqual(p["confidence"], max(p["p_class"]))
            self.assertEqual(p["class"], synth.CLASSES[p["p_class"].index(max(p["p_class"]))])
            for name in ("expert", "new-one"):
                a = p["annotators"][name]
                for row in a["p_confusion"]:
                    self.near(sum(row), 1)
                for z in range(3):
                    self.near(a["p_annotation"][z], sum(p["p_class"][k] * a["p_confusion"][k][z] for k in range(3)))
                self.near(a["p_perf"], sum(p["p_class"][k] * a["p_confusion"][k][k] for k in range(3)))
        self.assertEqual(first["annotators"]["new-one"]["evidence"], 0)
        train = {i["id"] for i in self.crowd.instances if i["split"] == "train"}
        self.assertEqual(
            first["annotators"]["expert"]["evidence"],
            sum(1 for v in self.crowd.labels if v["annotator"] == "expert" and v["instance"] in train),
        )

    def test_return_defaults_to_p_class(self):
        p = self.ask({"instances": [{"features": [0, 0]}]}, expect=200).json["predictions"][0]
        self.assertEqual(set(p), {"class", "confidence", "p_class"})
        p = self.ask({"instances": [{"features": [0, 0]}], "return": []}, expect=200).json["predictions"][0]
        self.assertEqual(set(p), {"class", "confidence"})
        p = self.ask({"instances": [{"features": [0, 0]}], "annotators": ["x"], "return": ["p_perf"]}, expect=200).json[
            "predictions"
        ][0]
        self.assertEqual(
            (set(p), set(p["annotators"]["x"])), ({"class", "confidence", "annotators"}, {"p_perf", "evidence"})
        )

    def test_features_win_over_id(self):
        both = self.ask(
            {"instances": [{"id": "i0001", "features": [9, 9]}, {"id": "not-stored", "features": [9, 9]}]}, expect=200
        ).json
        alone = self.ask({"instances": [{"features": [9, 9]}]}, expect=200).json
        for p in both["predictions"]:
            self.assertEqual(p["p_class"], alone["predictions"][0]["p_class"])
        self.assertEqual([p["id"] for p in both["predictions"]], ["i0001", "not-stored"])

    def test_a_row_does_not_depend_on_its_neighbours(self):
        rows = [{"features": i["features"]} for i in self.crowd.instances]
        many = self.ask({"instances": rows}, expect=200).json["predictions"]
        for n in (0, 57, 239):
            self.assertEqual(self.ask({"instances": [rows[n]]}).json["predictions"][0], many[n])

    def test_model_is_good(self):
        rows = [i for i in self.crowd.instances if i["split"] == "test"]
        found = self.ask({"instances": [{"id": i["id"]} for i in rows]}, expect=200).json["predictions"]
        right = sum(p["class"] == self.crowd.gold[p["id"]] for p in found)
        self.near(right / len(rows), self.run_["metrics"]["test"]["accuracy"], 1e-6)
        self.assertGreater(right / len(rows), 0.6)

    def test_binary(self):
        rows = [i["features"] for i in self.crowd.instances]
        raw = b"".join(struct.pack("<2f", *r) for r in rows)
        answer = self.api.call(
            "POST",
            self.path + "/predict",
            raw,
            type="application/octet-stream",
            headers={"Accept": "application/octet-stream"},
            expect=200,
        )
        self.assertEqual(answer.header("X-Annotmix-Model"), "1")
        values = struct.unpack("<%df" % (3 * len(rows)), answer.body)
        same = self.ask({"instances": [{"features": r} for r in rows]}).json["predictions"]
        for n, p in enumerate(same):
            for k in range(3):
                self.near(values[3 * n + k], p["p_class"][k], 1e-6)
        mixed = self.api.call("POST", self.path + "/predict", raw, type="application/octet-stream", expect=200).json
        self.assertEqual(mixed["predictions"], same)
        back = self.api.post(
            self.path + "/predict",
            {"instances": [{"features": r} for r in rows]},
            headers={"Accept": "application/octet-stream"},
            expect=200,
        )
        self.assertEqual(back.body, answer.body)
        for cut in (raw[:-1], raw[:4], raw + b"1234"):
            bad = self.api.call("POST", self.path + "/predict", cut, type="application/octet-stream")
            self.assertEqual(bad.status, 422, bad)
        nan = struct.pack("<2f", 1, float("nan"))
        self.assertEqual(
            self.api.call("POST", self.path + "/predict", nan, type="application/octet-stream").status, 422
        )

    def test_predict_wrong(self):
        for body, status, pointer in [
            ({"instances": [{"id": "nobody"}]}, 404, "/instances/0/id"),
            ({"instances": [{"features": [1]}]}, 422, "/instances/0/features"),
            ({"instances": [{"features": [1, 2, 3]}]}, 422, "/instances/0/features"),
            ({"instances": [{"features": [1, 2e6]}]}, 422, "/instances/0/features/1"),
            ({"instances": [{"features": [1, None]}]}, 422, "/instances/0/features/1"),
            ({"instances": [{}]}, 422, "/instances/0"),
            ({"instances": {}}, 422, "/instances"),
            ({}, 422, "/instances"),
            ({"instances": [], "retrun": []}, 422, "/retrun"),
            ({"instances": [{"features": [1, 2]}], "return": ["p_classes"]}, 422, "/return/0"),
            ({"instances": [{"features": [1, 2]}], "annotators": [""]}, 422, "/annotators/0"),
            ({"instances": [{"features": [1, 2]}], "annotators": "ana"}, 422, "/annotators"),
        ]:
            answer = self.ask(body)
            self.assertEqual(answer.status, status, (body, answer))
            self.assertIn(pointer, [e.get("pointer") for e in answer.json["errors"]], (body, answer))
        self.assertEqual(self.ask({"instances": []}, expect=200).json["predictions"], [])

    def test_predict_of_an_instance_without_features(self):
        self.api.post(self.path + "/instances", {"instances": [{"id": "no-features"}]}, expect=201)
        answer = self.ask({"instances": [{"id": "no-features"}]})
        self.assertIn(answer.status, (404, 409, 422), answer)
        self.assertIn("/instances/0", answer.json["errors"][0]["pointer"])
        self.api.delete(self.path + "/instances/no-features", expect=204)

    def test_no_model_is_409_naming_how_to_train(self):
        path = self.project(dim=2)
        for answer in (
            self.api.post(path + "/predict", {"instances": [{"features": [1, 2]}]}),
            self.api.get(path + "/predictions"),
        ):
            self.assertIn("training-runs", self.problem(answer, 409, "no-model")["detail"])

    # ---- predictions ----

    def test_predictions_paged_and_streamed(self):
        items = self.api.pages(self.path + "/predictions", 50)
        self.assertEqual([p["id"] for p in items], [i["id"] for i in self.crowd.instances])
        lines = self.api.get(self.path + "/predictions", headers={"Accept": "application/x-ndjson"}, expect=200)
        self.assertEqual(lines.header("X-Annotmix-Model"), "1")
        self.assertEqual(lines.lines, items)
        table = self.api.get(self.path + "/predictions?format=csv", expect=200)
        rows = list(csv.reader(io.StringIO(table.body.decode(), newline="")))
        self.assertEqual(rows[0][:3], ["instance", "class", "confidence"])
        self.assertEqual([r[0] for r in rows[1:]], [p["id"] for p in items])
        self.assertEqual([r[1] for r in rows[1:]], [p["class"] for p in items])
        self.near(float(rows[1][2]), items[0]["confidence"], 1e-6)
        test = self.api.pages(self.path + "/predictions?split=test", 7)
        self.assertEqual([p["id"] for p in test], [i["id"] for i in self.crowd.instances if i["split"] == "test"])
        same = self.ask({"instances": [{"id": items[5]["id"]}]}).json["predictions"][0]
        self.assertEqual(same["p_class"], items[5]["p_class"])
        some = self.api.get(self.path + "/predictions?id=i0005&id=nobody", expect=200).json
        self.assertEqual(([p["id"] for p in some["items"]], some["missing"]), (["i0005"], ["nobody"]))

    # ---- reliability ----

    def test_reliability(self):
        answer = self.api.get(self.path + "/reliability", expect=200).json
        self.assertEqual((answer["model"], answer["classes"]), (1, synth.CLASSES))
        items = {i["annotator"]: i for i in answer["items"]}
        self.assertEqual(set(items), set(synth.ANNOTATORS))
        self.assertGreater(items["expert"]["reliability"], items["random"]["reliability"])
        self.assertGreater(items["random"]["reliability"], items["adversary"]["reliability"])
        train = [i for i in self.crowd.instances if i["split"] == "train"]
        mine = {v["instance"] for v in self.crowd.labels if v["annotator"] == "fair"}
        rows = [i for i in train if i["id"] in mine]
        found = self.ask(
            {"instances": [{"features": i["features"]} for i in rows], "annotators": ["fair"], "return": ["p_perf"]}
        ).json
        mean = sum(p["annotators"]["fair"]["p_perf"] for p in found["predictions"]) / len(rows)
        self.near(items["fair"]["reliability"], mean, 1e-5)
        self.assertEqual(items["fair"]["evidence"], len(rows))
        for item in items.values():
            self.assertEqual(item["basis"], "model")
            self.assertEqual([c["class"] for c in item["per_class"]], synth.CLASSES)
            self.near(sum(c["evidence"] for c in item["per_class"]), item["evidence"], 0.01)
        labels = [v for v in self.crowd.labels if v["annotator"] == "expert"]
        self.assertEqual(
            items["expert"]["against_gold"],
            {"right": sum(self.crowd.gold[v["instance"]] == v["class"] for v in labels), "of": len(labels)},
        )
        self.assertEqual(items["expert"]["labels"], len(labels))
        self.assertIsNotNone(answer["population"]["reliability"])
        paged = self.api.pages(self.path + "/reliability", 2)
        self.assertEqual(paged, answer["items"])

    def test_reliability_of_one(self):
        answer = self.api.get(self.path + "/reliability/expert", expect=200)
        body = answer.json
        self.assertEqual(body["annotator"], "expert")
        for row in body["confusion"]:
            self.near(sum(row), 1, 1e-4)
        for k in range(3):
            self.near(body["confusion"][k][k], body["per_class"][k]["reliability"], 1e-5)
        self.assertIn("rows = true class", body["orientation"])
        self.api.get(self.path + "/reliability/expert", headers={"If-None-Match": answer.header("ETag")}, expect=304)
        at = self.api.get(self.path + "/reliability/expert?instance=i0003", expect=200).json["at_instance"]
        same = self.ask(
            {
                "instances": [{"id": "i0003"}],
                "annotators": ["expert"],
                "return": ["p_perf", "p_annotation", "p_confusion"],
            }
        ).json
        p = same["predictions"][0]["annotators"]["expert"]
        self.assertEqual(at["instance"], "i0003")
        self.near(at["p_perf"], p["p_perf"], 1e-6)
        for z in range(3):
            self.near(at["p_annotation"][z], p["p_annotation"][z], 1e-6)
        self.problem(self.api.get(self.path + "/reliability/expert?instance=nobody"), 404, "unknown-instance")

    def test_unseen_annotator_has_the_population_prior_and_evidence_0(self):
        body = self.api.get(self.path + "/reliability/nobody-yet", expect=200).json
        self.assertEqual((body["evidence"], body["labels"]), (0, 0))
        self.near(body["reliability"], self.api.get(self.path + "/reliability").json["population"]["reliability"], 1e-6)

    def test_reliability_as_table(self):
        text = self.api.get(self.path + "/reliability", headers={"Accept": "text/csv"}, expect=200).body.decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        self.assertEqual({r["annotator"] for r in rows}, set(synth.ANNOTATORS))
        self.assertIn("reliability", rows[0])
        lines = self.api.get(self.path + "/reliability?format=ndjson", expect=200).lines
        self.assertEqual(len(lines), 5)

    def test_reliability_without_a_model(self):
        path = self.project()
        body = self.api.get(path + "/reliability", expect=200).json
        self.assertEqual((body["model"], body["items"]), (None, []))
        self.api.post(
            path + "/labels",
            {"labels": [{"instance": "i%d" % i, "annotator": "a", "class": "cat"} for i in range(4)]},
            expect=201,
        )
        items = self.api.get(path + "/reliability", expect=200).json["items"]
        self.assertEqual([i["basis"] for i in items], ["agreement"])
        rows = [
            {"instance": "i%d" % i, "annotator": a, "class": ("cat", "dog")[i % 2] if a != "c" else "dog"}
            for i in range(20)
            for a in "abc"
        ]
        self.api.ndjson(path + "/labels", rows)
        items = {i["annotator"]: i for i in self.api.get(path + "/reliability", expect=200).json["items"]}
        self.assertEqual({i["basis"] for i in items.values()}, {"dawid_skene"})
        self.assertGreater(items["b"]["reliability"], items["c"]["reliability"])
        self.api.get(path + "/reliability/a", expect=200)
        self.api.get(path + "/reliability/unseen", expect=(200, 404))

    # ---- consensus ----

    def test_consensus_with_a_model_is_in_sample(self):
        body = self.api.get(self.path + "/consensus/i0003", expect=200).json
        labels = [v for v in self.crowd.labels if v["instance"] == "i0003"]
        question = {
            "instances": [{"id": "i0003"}],
            "annotators": [v["annotator"] for v in labels],
            "return": ["p_class", "p_confusion"],
        }
        p = self.ask(question).json["predictions"][0]
        posterior = list(p["p_class"])
        for v in labels:
            z = synth.CLASSES.index(v["class"])
            posterior = [q * p["annotators"][v["annotator"]]["p_confusion"][k][z] for k, q in enumerate(posterior)]
        total = sum(posterior)
        for k in range(3):
            self.near(body["posterior"][k], posterior[k] / total, 1e-4)
        self.assertEqual((body["basis"], body["resolved"], body["disputed"]), ("in_sample", None, None))
        self.assertEqual((body["labels"], body["instance"]), (3, "i0003"))
        self.assertEqual(body["class"], synth.CLASSES[body["posterior"].index(max(body["posterior"]))])
        self.assertEqual(body["confidence"], max(body["posterior"]))
        self.assertEqual(len(body["why"]), 4)
        self.assertEqual(sum(1 for w in body["why"] if w.get("model")), 1)
        answer = self.api.get(self.path + "/consensus/i0003")
        self.api.get(self.path + "/consensus/i0003", headers={"If-None-Match": answer.header("ETag")}, expect=304)
        self.problem(self.api.get(self.path + "/consensus/nobody"), 404, "unknown-instance")

    def test_consensus_list(self):
        items = self.api.pages(self.path + "/consensus", 50)
        self.assertEqual([i["instance"] for i in items], [i["id"] for i in self.crowd.instances])
        one = self.api.get(self.path + "/consensus/" + items[7]["instance"]).json
        self.assertEqual({k: one[k] for k in items[7] if k != "why"}, {k: v for k, v in items[7].items() if k != "why"})
        sure = self.api.pages(self.path + "/consensus?min_confidence=0.99", 50)
        self.assertEqual([i["instance"] for i in sure], [i["instance"] for i in items if i["confidence"] >= 0.99])
        text = self.api.get(self.path + "/consensus?format=csv", expect=200).body.decode()
        rows = list(csv.reader(io.StringIO(text, newline="")))
        self.assertEqual(rows[0], ["instance", "class", "confidence"])
        self.assertEqual([r[:2] for r in rows[1:]], [[i["instance"], i["class"]] for i in items])
        lines = self.api.get(self.path + "/consensus?format=ndjson", expect=200).lines
        self.assertEqual([v["instance"] for v in lines], [i["instance"] for i in items])
        some = self.api.get(self.path + "/consensus?id=i0007&id=nobody&id=i0001", expect=200).json
        self.assertEqual(([i["instance"] for i in some["items"]], some["missing"]), (["i0007", "i0001"], ["nobody"]))

    def test_consensus_from_labels_alone(self):
        path = self.project(settings={"overlap": 3, "resolve_threshold": 0.9})
        votes = {
            "agreed": ["cat"] * 3,
            "two": ["cat"] * 2,
            "split": ["cat", "cat", "dog"],
            "tie": ["dog", "cat"],
            "none": [],
        }
        self.api.post(
            path + "/instances",
            {
                "instances": [
                    {"id": i, "labels": [{"annotator": "a%d" % n, "class": c} for n, c in enumerate(v)]}
                    for i, v in votes.items()
                ]
            },
            expect=201,
        )
        self.api.post(path + "/instances", {"instances": [{"id": "golden", "gold": "dog"}]}, expect=201)
        items = {i["instance"]: i for i in self.api.get(path + "/consensus", expect=200).json["items"]}
        self.assertEqual({i["basis"] for i in items.values()}, {"labels_only"})
        self.assertEqual(
            [(items[n]["resolved"], items[n]["disputed"]) for n in ("agreed", "two", "split", "tie")],
            [(True, False), (False, False), (False, True), (False, True)],
        )
        self.assertTrue(items["golden"]["resolved"])
        self.assertEqual((items["split"]["class"], items["split"]["majority"]), ("cat", "cat"))
        self.near(items["split"]["confidence"], 2 / 3)
        self.assertEqual(items["tie"]["class"], "cat", "the lowest class on a tie")
        names = lambda query: sorted(i["instance"] for i in self.api.pages(path + "/consensus?" + query, 2))
        self.assertEqual(names("resolved=true"), ["agreed", "golden"])
        self.assertEqual(names("disputed=true"), ["split", "tie"])

    def test_consensus_by_another_method(self):
        for method in ("majority_vote", "dawid_skene"):
            body = self.api.get(self.path + "/consensus?limit=300&method=" + method, expect=200).json
            self.assertEqual({i["basis"] for i in body["items"]}, {"labels_only"})
            one = self.api.get(self.path + "/consensus/i0003?method=" + method, expect=200).json
            self.assertEqual(one["class"], next(i["class"] for i in body["items"] if i["instance"] == "i0003"))
        answer = self.api.get(self.path + "/consensus?method=nonsense")
        self.assertIn("majority_vote", self.problem(answer, 422, "invalid-setting")["detail"])

    def test_csv_cells_start_no_formula(self):
        path = self.project()
        self.api.post(path + "/labels", {"instance": "=1+1", "annotator": "@cmd", "class": "cat"}, expect=201)
        text = self.api.get(path + "/consensus?format=csv", expect=200).body.decode()
        self.assertIn("'=1+1", text)
        self.assertIn("'@cmd", self.api.get(path + "/reliability?format=csv", expect=200).body.decode())
