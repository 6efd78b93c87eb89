"""Gold labels and annotators."""

from harness import Case


class Gold(Case):
    def test_put_and_delete(self):
        path = self.project()
        self.api.post(path + "/instances", {"instances": [{"id": "a"}, {"id": "b/c"}]}, expect=201)
        body = self.api.put(path + "/gold/a", {"class": "cat"}, expect=201).json
        self.assertEqual((body["instance"], body["class"]), ("a", "cat"))
        self.api.put(path + "/gold/a", {"class": "dog"}, expect=200)
        self.assertEqual(self.api.get(path + "/instances/a").json["gold"], "dog")
        self.assertEqual(self.api.get(path).json["counts"]["gold"], 1)
        self.api.put(path + "/gold?id=b%2Fc", {"class": "cat"}, expect=201)
        self.api.put(path + "/gold?id=b%2Fc", {"class": "dog"}, expect=200)
        self.api.delete(path + "/gold?id=b%2Fc", expect=204)
        self.assertEqual(self.api.delete(path + "/gold?id=b%2Fc").status, 404)
        self.api.delete(path + "/gold/a", expect=204)
        self.assertEqual(self.api.delete(path + "/gold/a").status, 404)
        self.assertIsNone(self.api.get(path + "/instances/a").json["gold"])
        self.assertEqual(self.api.get(path).json["counts"]["gold"], 0)

    def test_wrong(self):
        path = self.project()
        self.api.post(path + "/instances", {"instances": [{"id": "a"}]}, expect=201)
        self.problem(self.api.put(path + "/gold/nobody", {"class": "cat"}), 404, "unknown-instance")
        self.problem(self.api.put(path + "/gold/a", {"class": "cow"}), 422, "unknown-class", pointer="/class")
        self.problem(self.api.put(path + "/gold/a", {}), 422, "invalid-body", pointer="/class")
        self.problem(self.api.put(path + "/gold/a", {"class": "cat", "by": "me"}), 422, "invalid-body", pointer="/by")
        self.problem(self.api.put(path + "/gold", {"class": "cat"}), 400, "invalid-query")
        self.problem(self.api.delete(path + "/gold"), 400, "invalid-query")
        self.assertEqual(self.api.get(path).json["counts"]["gold"], 0)

    def test_bulk_and_list(self):
        path = self.project()
        self.api.post(path + "/instances", {"instances": [{"id": "i%d" % i} for i in range(6)]}, expect=201)
        self.api.post(
            path + "/gold",
            {"gold": [{"instance": "i0", "class": "cat"}, {"instance": "i1", "class": "dog"}]},
            expect=201,
        )
        self.api.ndjson(path + "/gold", [{"instance": "i2", "class": "cat"}], expect=201)
        answer = self.api.csv(path + "/gold", "instance,class\ni3,cat\nnobody,cat\ni0,cow\n", expect=200).json
        self.assertEqual(
            (answer["accepted"], answer["rejected"], [e["line"] for e in answer["errors"]]), (1, 2, [3, 4])
        )
        items = self.api.pages(path + "/gold", 2)
        self.assertEqual(
            [(i["instance"], i["class"]) for i in items], [("i0", "cat"), ("i1", "dog"), ("i2", "cat"), ("i3", "cat")]
        )
        some = self.api.get(path + "/gold?id=i3&id=i5&id=nobody&id=i1", expect=200).json
        self.assertEqual(([i["instance"] for i in some["items"]], some["missing"]), (["i3", "i1"], ["i5", "nobody"]))

    def test_bulk_again(self):
        path = self.project()
        self.api.post(path + "/instances", {"instances": [{"id": "a"}, {"id": "b"}]}, expect=201)
        self.api.csv(path + "/gold", "instance,class\na,cat\n", expect=201)
        answer = self.api.csv(path + "/gold", "instance,class\na,dog\nb,cat\n", expect=200).json
        self.assertEqual((answer["created"], answer["updated"]), (1, 1))

    def test_gold_takes_a_label_seq(self):
        path = self.project()
        self.api.post(path + "/instances", {"instances": [{"id": "a"}]}, expect=201)
        before = self.api.get(path).json["label_seq"]
        self.api.put(path + "/gold/a", {"class": "cat"}, expect=201)
        self.assertEqual(self.api.get(path).json["label_seq"], before + 1)
        self.api.delete(path + "/gold/a", expect=204)
        self.assertEqual(self.api.get(path).json["label_seq"], before + 2)


class Annotators(Case):
    def test_counts_dates_and_deletion(self):
        path = self.project()
        self.api.post(
            path + "/labels",
            {
                "labels": [
                    {"instance": "i1", "annotator": "ana", "class": "cat", "given_at": "2026-01-01T00:00:00Z"},
                    {"instance": "i2", "annotator": "ana", "class": "cat", "given_at": "2026-01-03T00:00:00Z"},
                    {"instance": "i3", "annotator": "ana", "skipped": True, "given_at": "2026-01-02T00:00:00Z"},
                    {"instance": "i1", "annotator": "ben/2", "class": "dog"},
                ]
            },
            expect=201,
        )
        ana = self.api.get(path + "/annotators/ana", expect=200)
        body = ana.json
        self.assertEqual((body["annotator"], body["labels"], body["skipped"]), ("ana", 3, 1))
        self.assertEqual(
            (body["first_label_at"], body["last_label_at"]), ("2026-01-01T00:00:00.000Z", "2026-01-03T00:00:00.000Z")
        )
        self.api.get(path + "/annotators/ana", headers={"If-None-Match": ana.header("ETag")}, expect=304)
        self.assertEqual([a["annotator"] for a in self.api.pages(path + "/annotators", 1)], ["ana", "ben/2"])
        some = self.api.get(path + "/annotators?id=ben%2F2&id=nobody", expect=200).json
        self.assertEqual(([a["annotator"] for a in some["items"]], some["missing"]), (["ben/2"], ["nobody"]))
        self.assertEqual(self.api.get(path + "/annotators/nobody").status, 404)
        self.api.delete(path + "/annotators/ana", expect=204)
        self.assertEqual(self.api.delete(path + "/annotators/ana").status, 404)
        self.assertEqual(self.api.get(path + "/annotators/ana").status, 404)
        counts = self.api.get(path).json["counts"]
        self.assertEqual((counts["annotators"], counts["labels"]), (1, 1))
        self.assertEqual([i["annotator"] for i in self.api.get(path + "/labels").json["items"]], ["ben/2"])
        self.api.delete(path + "/annotators?id=ben%2F2", expect=204)
        self.problem(self.api.delete(path + "/annotators"), 400, "invalid-query")
        self.assertEqual(self.api.get(path).json["counts"]["labels"], 0)
        self.assertEqual(self.api.get(path + "/instances/i1").json["labels"], [])

    def test_deleted_annotators_leave_tombstones(self):
        from harness import until

        path = self.project()
        self.api.ndjson(
            path + "/labels",
            [{"instance": "i%d" % i, "annotator": "ana", "class": "cat"} for i in range(20)],
            expect=201,
        )
        seq = self.api.get(path).json["label_seq"]
        self.api.delete(path + "/annotators/ana", expect=204)
        feed = until(
            lambda: (lambda f: f if len(f) == 20 else None)(
                self.api.get(path + "/labels?after_seq=%d" % seq).json["items"]
            ),
            "20 tombstones",
        )
        self.assertTrue(all(item["deleted"] for item in feed))
        again = self.api.post(path + "/labels", {"instance": "i1", "annotator": "ana", "class": "dog"}, expect=201).json
        self.assertGreater(again["seq"], feed[-1]["seq"])

    def test_reliability_item_is_there(self):
        path = self.project()
        self.api.post(path + "/labels", {"instance": "i1", "annotator": "ana", "class": "cat"}, expect=201)
        self.assertIn("reliability", self.api.get(path + "/annotators/ana", expect=200).json)
