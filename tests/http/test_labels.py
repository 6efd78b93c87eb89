"""Labels: one current label per pair, history, the change feed, refs, skipped ones, CSV."""

import collections
import threading

from harness import Case, Client


class Labels(Case):
    def label(self, path, instance="i", annotator="a", klass="cat", expect=None, **more):
        body = {"instance": instance, "annotator": annotator, "class": klass, **more}
        return self.api.post(path + "/labels", {k: v for k, v in body.items() if v is not ...}, expect=expect)

    def test_new_label_as_on_the_wire(self):
        path = self.project()
        body = self.label(path, ref="r1", given_at="2026-11-23T22:00:00+01:00", duration_ms=2150, expect=201).json
        self.assertEqual(
            body,
            {
                "instance": "i",
                "annotator": "a",
                "class": "cat",
                "ref": "r1",
                "given_at": "2026-11-23T21:00:00.000Z",
                "seq": 1,
                "replaces": None,
                "superseded": False,
                "unchanged": False,
                "p_correct": None,
                "model": None,
            },
        )
        item = self.api.get(path + "/labels").json["items"][0]
        self.assertEqual(
            {k: item[k] for k in ("instance", "annotator", "class", "ref", "given_at", "seq", "skipped", "deleted")},
            {
                "instance": "i",
                "annotator": "a",
                "class": "cat",
                "ref": "r1",
                "given_at": "2026-11-23T21:00:00.000Z",
                "seq": 1,
                "skipped": False,
                "deleted": False,
            },
        )

    def test_another_class_replaces(self):
        path = self.project()
        self.label(path, expect=201)
        body = self.label(path, klass="dog", expect=200).json
        self.assertEqual(
            (body["replaces"], body["seq"], body["superseded"], body["unchanged"]), ("cat", 2, False, False)
        )
        items = self.api.get(path + "/labels").json["items"]
        self.assertEqual([(i["class"], i["seq"]) for i in items], [("dog", 2)])
        history = self.api.get(path + "/labels?history=true").json["items"]
        self.assertEqual([i["class"] for i in history], ["cat", "dog"])
        self.assertEqual(self.api.get(path).json["counts"]["labels"], 1)

    def test_the_same_again_changes_nothing(self):
        path = self.project()
        self.label(path, expect=201)
        body = self.label(path, expect=200).json
        self.assertEqual((body["unchanged"], body["seq"], body["replaces"]), (True, 1, None))
        self.assertEqual(self.api.get(path).json["label_seq"], 1)
        bulk = self.api.post(
            path + "/labels",
            {
                "labels": [
                    {"instance": "i", "annotator": "a", "class": "cat"},
                    {"instance": "i", "annotator": "b", "class": "cat"},
                ]
            },
            expect=200,
        ).json
        self.assertEqual((bulk["accepted"], bulk["created"], bulk["updated"], bulk["unchanged"]), (2, 1, 0, 1))

    def test_a_late_one_goes_to_history(self):
        path = self.project()
        self.label(path, given_at="2026-01-02T00:00:00Z", expect=201)
        body = self.label(path, klass="dog", given_at="2026-01-01T00:00:00Z", expect=200).json
        self.assertEqual((body["superseded"], body["unchanged"]), (True, False))
        self.assertEqual(self.api.get(path + "/labels?instance=i").json["items"][0]["class"], "cat")
        self.assertEqual(len(self.api.get(path + "/labels?history=true").json["items"]), 2)
        newer = self.label(path, klass="rabbit", given_at="2026-01-03T00:00:00Z", expect=200).json
        self.assertEqual((newer["replaces"], newer["superseded"]), ("cat", False))

    def test_equal_times_go_by_arrival(self):
        path = self.project()
        self.label(path, given_at="2026-01-02T00:00:00Z", expect=201)
        self.assertFalse(self.label(path, klass="dog", given_at="2026-01-02T00:00:00Z", expect=200).json["superseded"])
        self.assertEqual(self.api.get(path + "/labels").json["items"][0]["class"], "dog")

    def test_skipped(self):
        path = self.project()
        body = self.label(path, klass=..., skipped=True, expect=201).json
        self.assertIsNone(body["class"])
        item = self.api.get(path + "/labels").json["items"][0]
        self.assertEqual((item["skipped"], item["class"], item["deleted"]), (True, None, False))
        self.assertEqual(self.api.get(path).json["counts"]["labels"], 1)
        self.problem(self.label(path, skipped=True), 422, "invalid-body", pointer="/class")
        self.problem(self.label(path, klass=...), 422, "invalid-body", pointer="/class")
        self.label(path, klass="dog", expect=200)

    def test_refs_are_unique(self):
        path = self.project()
        self.label(path, ref="r", expect=201)
        self.problem(self.label(path, annotator="b", ref="r"), 409, "conflict")
        self.label(path, klass="dog", ref="r", expect=200)
        self.assertEqual(self.api.get(path + "/labels?ref=r").json["items"][0]["class"], "dog")
        self.assertEqual(self.api.get(path + "/labels?ref=nobody").json["items"], [])

    def test_unknown_instance_with_features(self):
        path = self.project(dim=2)
        self.problem(self.label(path), 404, "unknown-instance")
        self.api.post(
            path + "/labels?create_instances=true", {"instance": "i", "annotator": "a", "class": "cat"}, expect=201
        )
        self.assertTrue(self.api.get(path + "/instances/i").json["awaiting_features"])
        text = '{"instance":"i","annotator":"b","class":"cat"}\n{"instance":"nobody","annotator":"b","class":"cat"}\n'
        answer = self.api.ndjson(path + "/labels", text, expect=200).json
        self.assertEqual((answer["accepted"], answer["errors"][0]["line"]), (1, 2))
        self.assertEqual(self.api.get(path).json["counts"]["annotators"], 2)

    def test_unknown_class(self):
        path = self.project()
        self.problem(self.label(path, klass="cow"), 422, "unknown-class", pointer="/class", says="cow")
        self.assertEqual(self.api.get(path).json["counts"]["annotators"], 0, "a refused label makes no annotator")
        self.assertEqual(self.api.get(path).json["counts"]["instances"], 0)

    def test_wrong_fields(self):
        path = self.project()
        for change, pointer in [
            ({"instance": ""}, "/instance"),
            ({"instance": 7}, "/instance"),
            ({"annotator": "\u0001"}, "/annotator"),
            ({"annotator": ".."}, "/annotator"),
            ({"class": 3}, "/class"),
            ({"clazz": "cat"}, "/clazz"),
            ({"given_at": "yesterday"}, "/given_at"),
            ({"given_at": "2026-01-01T00:00:00"}, "/given_at"),
            ({"given_at": "2026-13-01T00:00:00Z"}, "/given_at"),
            ({"duration_ms": -1}, "/duration_ms"),
            ({"duration_ms": 1.5}, "/duration_ms"),
            ({"skipped": "yes"}, "/skipped"),
            ({"ref": ""}, "/ref"),
            ({"annotator": "x" * 256}, "/annotator"),
        ]:
            answer = self.api.post(path + "/labels", {"instance": "i", "annotator": "a", "class": "cat", **change})
            self.problem(answer, 422, "invalid-body", pointer=pointer)
        for missing in ("instance", "annotator"):
            self.problem(self.label(path, **{missing: ...}), 422, "invalid-body", pointer="/" + missing)

    def test_change_feed_with_tombstones_and_no_gaps(self):
        path = self.project()
        for i in range(6):
            self.label(path, instance="i%d" % i, expect=201)
        self.label(path, instance="i1", klass="dog", expect=200)  # 7
        self.api.delete(path + "/labels?instance=i2&annotator=a", expect=204)  # 8
        self.api.put(path + "/gold/i3", {"class": "cat"}, expect=201)  # 9
        self.label(path, instance="i2", klass="rabbit", expect=201)  # 10
        self.assertEqual(self.api.get(path).json["label_seq"], 10)
        mirror, seq = {}, 0
        while True:
            page = self.api.get(path + "/labels?after_seq=%d&limit=2" % seq).json["items"]
            if not page:
                break
            for item in page:
                self.assertGreater(item["seq"], seq)
                seq = item["seq"]
                key = (item["instance"], item["annotator"])
                if item["deleted"]:
                    self.assertIsNone(item["class"])
                    mirror.pop(key, None)
                else:
                    mirror[key] = item["class"]
        now = {(i["instance"], i["annotator"]): i["class"] for i in self.api.pages(path + "/labels", 2)}
        self.assertEqual(mirror, now)
        self.assertEqual(now[("i1", "a")], "dog")
        self.assertEqual(now[("i2", "a")], "rabbit")

    def test_delete(self):
        path = self.project()
        self.label(path, ref="r", expect=201)
        self.label(path, annotator="b", expect=201)
        for query in ("", "?instance=i", "?annotator=a", "?instance=i&annotator=a&ref=r"):
            self.problem(self.api.delete(path + "/labels" + query), 400, "invalid-query")
        self.api.delete(path + "/labels?instance=i&annotator=b", expect=204)
        self.assertEqual(self.api.delete(path + "/labels?instance=i&annotator=b").status, 404)
        self.api.delete(path + "/labels?ref=r", expect=204)
        self.assertEqual(self.api.delete(path + "/labels?ref=r").status, 404)
        self.assertEqual(self.api.get(path).json["counts"]["labels"], 0)
        self.assertEqual(self.api.get(path + "/labels").json["items"], [])
        self.label(path, ref="r", expect=201)

    def test_filters(self):
        path = self.project()
        self.api.post(
            path + "/labels",
            {"labels": [{"instance": i, "annotator": a, "class": "cat"} for i in "xyz" for a in "ab"]},
            expect=201,
        )
        pairs = lambda query: [(i["instance"], i["annotator"]) for i in self.api.pages(path + "/labels?" + query, 2)]
        self.assertEqual(pairs("instance=y"), [("y", "a"), ("y", "b")])
        self.assertEqual(pairs("annotator=b"), [("x", "b"), ("y", "b"), ("z", "b")])
        self.assertEqual(pairs("instance=z&annotator=a"), [("z", "a")])
        self.assertEqual(pairs("instance=nobody"), [])
        self.assertEqual(len(pairs("after_seq=2")), 4)

    def test_csv_headers(self):
        path = self.project()
        self.assertEqual(
            self.api.csv(path + "/labels", 'task,worker,label\r\ni1,a,cat\r\n"i,2",a,dog\r\n', expect=201).json[
                "created"
            ],
            2,
        )
        self.assertEqual(
            self.api.csv(path + "/labels", "instance,annotator,class\ni1,b,cat\ni1,c,cow\n", expect=200).json[
                "rejected"
            ],
            1,
        )
        for header in (
            "task,worker",
            "worker,label,task2",
            "a,b,c",
            "task,worker,label,task",
            "task,worker,label,colour",
        ):
            answer = self.api.csv(path + "/labels", header + "\ni1,b,cat\n")
            self.assertIn(answer.status, (400, 422), (header, answer))
            self.assertEqual(answer.json["type"], "/problems/invalid-body")

    def test_csv_optional_columns(self):
        path = self.project()
        text = (
            "instance,annotator,class,ref,given_at,duration_ms,skipped\n"
            "i,a,cat,r1,2026-01-01T00:00:00Z,12,\ni,b,,,,,true\n"
        )
        self.api.csv(path + "/labels", text, expect=201)
        items = {i["annotator"]: i for i in self.api.get(path + "/labels").json["items"]}
        self.assertEqual((items["a"]["ref"], items["a"]["given_at"]), ("r1", "2026-01-01T00:00:00.000Z"))
        self.assertEqual((items["b"]["skipped"], items["b"]["class"], items["b"]["ref"]), (True, None, None))

    def test_bulk_rows_may_repeat_a_pair(self):
        path = self.project()
        rows = [{"instance": "i", "annotator": "a", "class": c} for c in ("cat", "dog", "dog", "rabbit")]
        answer = self.api.ndjson(path + "/labels", rows, expect=200).json
        self.assertEqual((answer["accepted"], answer["created"], answer["updated"], answer["unchanged"]), (4, 1, 2, 1))
        self.assertEqual(self.api.get(path + "/labels").json["items"][0]["class"], "rabbit")

    def test_a_body_cut_off_keeps_what_was_committed(self):
        import socket
        from harness import until

        path = self.project()
        rows = "".join('{"instance":"i%d","annotator":"a","class":"cat"}\n' % i for i in range(20000)).encode()
        with socket.create_connection(("127.0.0.1", self.server.port)) as s:
            s.sendall(
                (
                    "POST %s/labels HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
                    "Content-Length: %d\r\n\r\n" % (path, len(rows) * 2)
                ).encode()
                + rows
            )
            until(lambda: self.api.get(path).json["counts"]["labels"] >= 1000, "the first batches")
        until(lambda: self.api.get("/readyz").status == 200)
        done = self.api.ndjson(path + "/labels", rows, expect=(200, 201)).json
        self.assertEqual(done["accepted"], 20000)
        self.assertEqual(self.api.get(path).json["counts"]["labels"], 20000)

    def test_counts_follow(self):
        path = self.project()
        self.label(path, expect=201)
        self.label(path, annotator="b", expect=201)
        self.label(path, instance="j", expect=201)
        counts = self.api.get(path).json["counts"]
        self.assertEqual((counts["instances"], counts["annotators"], counts["labels"]), (2, 2, 3))

    def test_labels_sent_at_once_have_their_own_answers(self):
        """They share transactions, statements and counters; one that is refused takes nothing from its neighbours."""
        path, threads_of_each, rounds = self.project(), 4, 25
        self.label(path, instance="taken", ref="taken", expect=201)
        kinds = {
            "new": lambda n: ({"instance": "i" + n, "annotator": "a" + n, "class": "cat"}, {}),
            "unknown": lambda n: ({"instance": "no" + n, "annotator": "u" + n, "class": "cat"}, {}),
            "conflict": lambda n: ({"instance": "c" + n, "annotator": "c" + n, "class": "cat", "ref": "taken"}, {}),
            "same pair": lambda n: ({"instance": "same", "annotator": "same", "class": "cat"}, {}),
            "shared annotator": lambda n: ({"instance": "s" + n, "annotator": "shared", "class": "dog"}, {}),
            "with a key": lambda n: (
                {"instance": "k" + n, "annotator": "k" + n, "class": "dog"},
                {"Idempotency-Key": n},
            ),
        }
        answers, errors, start = collections.defaultdict(list), [], threading.Barrier(threads_of_each * len(kinds))

        def work(kind, thread):
            try:
                client = Client(self.server)
                start.wait()
                for n in range(rounds):
                    body, headers = kinds[kind]("%d-%d" % (thread, n))
                    query = "?create_instances=false" if kind == "unknown" else ""
                    answer = client.post(path + "/labels" + query, body, headers=headers)
                    answers[kind].append((answer.status, body, answer.json))
                client.close()
            except BaseException as problem:  # noqa: BLE001 (told in the main thread)
                errors.append(problem)

        threads = [threading.Thread(target=work, args=(k, t)) for k in kinds for t in range(threads_of_each)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(errors, [])
        all_of_it = threads_of_each * rounds
        statuses = {kind: collections.Counter(a[0] for a in answers[kind]) for kind in kinds}
        for kind, status in (("new", 201), ("shared annotator", 201), ("with a key", 201), ("unknown", 404), ("conflict", 409)):
            self.assertEqual(statuses[kind], {status: all_of_it}, kind)
        self.assertEqual(statuses["same pair"], {201: 1, 200: all_of_it - 1})
        items = {(i["instance"], i["annotator"]): i for i in self.api.pages(path + "/labels", 1000)}
        self.assertEqual(len(items), 3 * all_of_it + 2)
        for kind in ("new", "shared annotator", "with a key"):
            for _, body, said in answers[kind]:
                item = items[(body["instance"], body["annotator"])]
                self.assertEqual((item["seq"], item["class"]), (said["seq"], body["class"]))
                self.assertEqual((said["instance"], said["annotator"]), (body["instance"], body["annotator"]))
        self.assertEqual(sorted(i["seq"] for i in items.values()), list(range(1, len(items) + 1)))
        counts = self.api.get(path).json["counts"]
        self.assertEqual((counts["labels"], counts["annotators"]), (len(items), 2 * all_of_it + 3))
        self.assertEqual(self.api.get(path + "/annotators/shared").json["labels"], all_of_it)
