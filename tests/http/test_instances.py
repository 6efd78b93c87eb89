"""Instances: JSON, NDJSON, CSV, npy, gzip, atomic; lists, filters, deletion."""

import gzip
import io
import json
import struct

from harness import Case, quote


def npy(rows, dtype="<f4", fortran=False, version=1):
    """A .npy file of a matrix (list of rows)."""
    head = "{'descr': '%s', 'fortran_order': %s, 'shape': (%d, %d), }" % (
        dtype,
        fortran,
        len(rows),
        len(rows[0]) if rows else 0,
    )
    size = 10 if version == 1 else 12
    head += " " * (63 - (size + len(head)) % 64) + "\n"
    out = io.BytesIO()
    out.write(
        b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(head)) + head.encode()
    )
    kind = {"<f4": "<f", "<f8": "<d", ">f4": ">f", "<i4": "<i"}[dtype]
    for row in rows:
        for x in row:
            out.write(struct.pack(kind, x))
    return out.getvalue()


class Instances(Case):
    def test_json_as_on_the_wire(self):
        path = self.project(dim=2)
        row = {
            "id": "song-17",
            "features": [0.1, 2.0],
            "split": "train",
            "metadata": {"text": "..", "image_url": "..", "n": [1, 2.5, None, True]},
            "gold": "dog",
            "labels": [{"annotator": "ana", "class": "rabbit"}],
        }
        answer = self.api.post(path + "/instances", {"instances": [row]}, expect=201).json
        self.assertEqual(
            answer, {"accepted": 1, "created": 1, "updated": 0, "rejected": 0, "errors": [], "errors_truncated": False}
        )
        got = self.api.get(path + "/instances/song-17?features=true", expect=200).json
        self.assertEqual(
            (got["id"], got["split"], got["metadata"], got["gold"]), ("song-17", "train", row["metadata"], "dog")
        )
        self.assertEqual([round(x, 6) for x in got["features"]], [0.1, 2.0])
        self.assertEqual([(v["annotator"], v["class"]) for v in got["labels"]], [("ana", "rabbit")])
        self.assertEqual(got["counts"]["labels"], 1)
        self.assertNotIn("features", self.api.get(path + "/instances/song-17").json)
        counts = self.api.get(path).json["counts"]
        self.assertEqual((counts["instances"], counts["annotators"], counts["labels"], counts["gold"]), (1, 1, 1, 1))

    def test_bulk_answer_names_line_and_pointer(self):
        path = self.project(dim=6)
        text = '{"id":"a","features":[1,2,3,4,5,6]}\n{"id":"b"}\n{"id":"c","features":[0,0,0,0,0,NaN]}\n'
        answer = self.api.ndjson(path + "/instances", text, expect=200).json
        self.assertEqual((answer["accepted"], answer["created"], answer["updated"], answer["rejected"]), (2, 2, 0, 1))
        self.assertEqual([(e["line"], e["pointer"]) for e in answer["errors"]], [(3, "/features/5")])
        self.assertIn("NaN", answer["errors"][0]["detail"])
        self.assertFalse(answer["errors_truncated"])

    def test_result_lines(self):
        path = self.project(dim=1)
        self.api.post(path + "/instances", {"instances": [{"id": "b"}]}, expect=201)
        text = '{"id":"a","features":[1]}\n{"id":"b","features":[1]}\n{"id":"c","features":["x"]}\n\n{"id":"d"}'
        answer = self.api.ndjson(path + "/instances", text, headers={"Accept": "application/x-ndjson"}, expect=200)
        lines = answer.lines
        self.assertEqual([r["status"] for r in lines if r["line"] != 4], ["created", "updated", "rejected", "created"])
        self.assertEqual([r["line"] for r in lines if r["line"] != 4], [1, 2, 3, 5])
        self.assertEqual(next(r for r in lines if r["line"] == 3)["pointer"], "/features/0")

    def test_all_rejected_is_422_with_the_same_members(self):
        path = self.project(dim=1)
        body = self.problem(
            self.api.ndjson(path + "/instances", '{"id":""}\n{"id":"x","features":[1,2]}\n'),
            422,
            "invalid-body",
            line=1,
        )
        self.assertEqual((body["accepted"], body["rejected"], len(body["errors"])), (0, 2, 2))
        self.assertEqual(self.api.get(path).json["counts"]["instances"], 0)

    def test_at_most_100_errors_are_listed(self):
        path = self.project(dim=1)
        text = "".join('{"id":"i%d","features":[]}\n' % i for i in range(250)) + '{"id":"good"}\n'
        answer = self.api.ndjson(path + "/instances", text, expect=200).json
        self.assertEqual((answer["rejected"], len(answer["errors"]), answer["errors_truncated"]), (250, 100, True))

    def test_same_id_again_replaces_the_given_fields_only(self):
        path = self.project(dim=2)
        self.api.post(
            path + "/instances",
            {"instances": [{"id": "a", "features": [1, 2], "split": "test", "metadata": {"x": 1}, "gold": "cat"}]},
            expect=201,
        )
        answer = self.api.post(path + "/instances", {"instances": [{"id": "a", "features": [3, 4]}]}, expect=200).json
        self.assertEqual((answer["created"], answer["updated"]), (0, 1))
        got = self.api.get(path + "/instances/a?features=true").json
        self.assertEqual(
            (got["features"], got["split"], got["metadata"], got["gold"]), ([3, 4], "test", {"x": 1}, "cat")
        )

    def test_awaiting_features(self):
        path = self.project(dim=2)
        self.api.post(
            path + "/instances",
            {
                "instances": [
                    {"id": "a", "labels": [{"annotator": "x", "class": "cat"}]},
                    {"id": "b", "features": [1, 1]},
                ]
            },
            expect=201,
        )
        self.assertTrue(self.api.get(path + "/instances/a").json["awaiting_features"])
        self.assertEqual(
            [i["id"] for i in self.api.get(path + "/instances?awaiting_features=true").json["items"]], ["a"]
        )
        self.assertEqual(
            [i["id"] for i in self.api.get(path + "/instances?awaiting_features=false").json["items"]], ["b"]
        )
        self.assertEqual(self.api.get(path).json["counts"]["awaiting_features"], 1)
        self.api.post(path + "/instances", {"instances": [{"id": "a", "features": [0, 0]}]}, expect=200)
        self.assertEqual(self.api.get(path).json["counts"]["awaiting_features"], 0)
        flat = self.project(dim=0)
        self.api.post(flat + "/instances", {"instances": [{"id": "a"}]}, expect=201)
        self.assertFalse(self.api.get(flat + "/instances/a").json["awaiting_features"])

    def test_duplicate_ids_in_one_json_body_are_errors_of_the_later(self):
        path = self.project(dim=1)
        answer = self.api.post(
            path + "/instances", {"instances": [{"id": "a", "features": [1]}, {"id": "a", "features": [2]}]}, expect=200
        ).json
        self.assertEqual((answer["accepted"], answer["rejected"], answer["errors"][0]["line"]), (1, 1, 2))
        self.assertEqual(self.api.get(path + "/instances/a?features=true").json["features"], [1])

    def test_in_streams_the_later_line_replaces_the_earlier(self):
        path = self.project(dim=1)
        answer = self.api.ndjson(
            path + "/instances", '{"id":"a","features":[1]}\n{"id":"a","features":[2]}\n', expect=200
        ).json
        self.assertEqual((answer["accepted"], answer["created"], answer["updated"]), (2, 1, 1))
        self.assertEqual(self.api.get(path + "/instances/a?features=true").json["features"], [2])

    def test_csv(self):
        path = self.project(dim=3)
        text = 'instance,split,f0,f1,f2\r\n"a,1",train,1,2,3\r\n"say ""hi""",test,-1e3,.5,1E-2\r\n'
        text += "c,,1,2,x\r\nd,train,1,2\r\n"
        answer = self.api.csv(path + "/instances", text, expect=200).json
        self.assertEqual((answer["created"], answer["rejected"]), (2, 2))
        self.assertEqual([e["line"] for e in answer["errors"]], [4, 5])
        got = self.api.get(path + "/instances/" + quote('say "hi"') + "?features=true").json
        self.assertEqual((got["split"], [round(x, 6) for x in got["features"]]), ("test", [-1000, 0.5, 0.01]))
        self.api.get(path + "/instances/a%2C1", expect=200)

    def test_csv_columns_are_found_by_name(self):
        path = self.project(dim=2)
        text = 'f1,gold,id,metadata,f0\n2,cat,a,"{""text"":""hi, you""}",1\n,,b,,\n4,cow,c,,3\n4,cat,d,{nonsense,3\n'
        answer = self.api.csv(path + "/instances", text, expect=200).json
        self.assertEqual([(e["line"], e["pointer"]) for e in answer["errors"]], [(4, "/gold"), (5, "/metadata")])
        got = self.api.get(path + "/instances/a?features=true").json
        self.assertEqual((got["features"], got["gold"], got["metadata"]), ([1, 2], "cat", {"text": "hi, you"}))
        self.assertTrue(self.api.get(path + "/instances/b").json["awaiting_features"])

    def test_csv_with_a_wrong_header(self):
        path = self.project(dim=2)
        for header in (
            "instance,split,f0",
            "instance,split,f0,f1,f2",
            "name,split,f0,f1",
            "instance,f0,f1,split,x",
            "",
        ):
            answer = self.api.csv(path + "/instances", header + "\na,train,1,2\n")
            self.assertIn(answer.status, (400, 422), (header, answer))
            self.assertEqual(answer.json["type"], "/problems/invalid-body", header)
        self.assertEqual(self.api.get(path).json["counts"]["instances"], 0)

    def test_npy(self):
        path = self.project(dim=2)
        url = path + "/instances?id_prefix=row-&split=test"
        kind = {"type": "application/x-npy"}
        answer = self.api.call("POST", url, npy([[1, 2], [3, 4], [5, 6.5]]), **kind, expect=201).json
        self.assertEqual(answer["created"], 3)
        got = self.api.get(path + "/instances/row-2?features=true").json
        self.assertEqual((got["features"], got["split"]), ([5, 6.5], "test"))
        answer = self.api.call("POST", url, npy([[1, 2], [7, 8]], "<f8", version=2), **kind, expect=200).json
        self.assertEqual(answer["updated"], 2)
        bad = self.api.call("POST", url, npy([[1, float("nan")], [1, 1]]), **kind, expect=200).json
        self.assertEqual(([e["line"] for e in bad["errors"]], bad["errors"][0]["pointer"]), ([1], "/features/1"))

    def test_npy_anything_else_is_422(self):
        path = self.project(dim=2)
        good = npy([[1, 2], [3, 4]])
        self.problem(self.api.call("POST", path + "/instances", good, type="application/x-npy"), 400, "invalid-query")
        for what, body in [
            ("three columns", npy([[1, 2, 3]])),
            ("Fortran order", npy([[1, 2]], fortran=True)),
            ("integers", npy([[1, 2]], "<i4")),
            ("big-endian", npy([[1, 2]], ">f4")),
            ("no magic", b"hello" + good),
            ("cut", good[:-3]),
            ("too long", good + b"xx"),
            ("head cut", good[:40]),
        ]:
            answer = self.api.call(
                "POST", path + "/instances?id_prefix=" + quote("n" + what), body, type="application/x-npy"
            )
            self.assertIn(answer.status, (400, 422), (what, answer))

    def test_gzip_in(self):
        path = self.project(dim=1)
        text = "".join('{"id":"i%d","features":[%d]}\n' % (i, i) for i in range(3000)).encode()
        packed = {"Content-Encoding": "gzip"}
        self.assertEqual(
            self.api.ndjson(path + "/instances", gzip.compress(text), headers=packed, expect=201).json["created"], 3000
        )
        body = gzip.compress(json.dumps({"instances": [{"id": "z"}]}).encode())
        self.api.call("POST", path + "/instances", body, type="application/json", headers=packed, expect=201)

    def test_long_streams_in_chunks(self):
        path = self.project(dim=4)

        def lines():
            for start in range(0, 20000, 500):
                yield "".join(
                    '{"id":"i%d","features":[1,2,3,%d]}\n' % (i, i) for i in range(start, start + 500)
                ).encode()

        answer = self.api.call("POST", path + "/instances", lines(), type="application/x-ndjson", expect=201).json
        self.assertEqual(answer["created"], 20000)
        self.assertEqual(self.api.get(path).json["counts"]["instances"], 20000)

    def test_atomic(self):
        path = self.project(dim=1)
        url = path + "/instances?atomic=true"
        body = self.problem(
            self.api.ndjson(url, '{"id":"a"}\n{"id":"b","features":[1,2]}\n{"id":"c"}\n'), 422, "invalid-body", line=2
        )
        self.assertEqual(body["accepted"], 0)
        self.assertEqual(self.api.get(path).json["counts"]["instances"], 0)
        self.api.ndjson(url, '{"id":"a"}\n{"id":"c"}\n', expect=201)
        self.assertEqual(self.api.get(path).json["counts"]["instances"], 2)

    def test_a_row_is_all_or_nothing(self):
        path = self.project(dim=1)
        labels = '[{"annotator":"x","class":"cat"},{"annotator":"y","class":"cow"}]'
        text = '{"id":"a","features":[1],"labels":%s}\n{"id":"b"}\n' % labels
        answer = self.api.ndjson(path + "/instances", text, expect=200).json
        self.assertEqual((answer["accepted"], answer["errors"][0]["pointer"]), (1, "/labels/1/class"))
        self.api.get(path + "/instances/a", expect=404)
        self.assertEqual(self.api.get(path).json["counts"]["labels"], 0)

    def test_lists_filter_and_page(self):
        path = self.project(dim=1)
        rows = [{"id": "i%d" % i, "features": [i], "split": ("train", "valid", "test")[i % 3]} for i in range(9)]
        rows[0]["gold"] = "cat"
        rows[4]["labels"] = [{"annotator": "x", "class": "cat"}]
        rows[5]["labels"] = [{"annotator": "x", "class": "cat"}, {"annotator": "y", "class": "dog"}]
        rows[6]["labels"] = [{"annotator": a, "class": "cat"} for a in "xyz"]
        self.api.ndjson(path + "/instances", rows, expect=201)
        ids = lambda query: [i["id"] for i in self.api.pages(path + "/instances" + query, 2)]
        self.assertEqual(ids(""), [r["id"] for r in rows])
        self.assertEqual(ids("?split=valid"), ["i1", "i4", "i7"])
        self.assertEqual(ids("?unlabelled=true"), ["i0", "i1", "i2", "i3", "i7", "i8"])
        self.assertEqual(ids("?unlabelled=false"), ["i4", "i5", "i6"])
        self.assertEqual(ids("?has_gold=true"), ["i0"])
        self.assertEqual(ids("?has_gold=false&split=train"), ["i3", "i6"])
        self.assertEqual(ids("?disputed=true"), ["i5"])
        self.assertEqual(ids("?resolved=true"), ["i0", "i6"])
        self.assertEqual(ids("?split=test&unlabelled=false"), ["i5"])
        self.problem(self.api.get(path + "/instances?split=all"), 400, "invalid-query")
        self.problem(self.api.get(path + "/instances?unlabelled=maybe"), 400, "invalid-query")

    def test_several_by_query_in_order_missing_named(self):
        path = self.project()
        self.api.post(path + "/instances", {"instances": [{"id": "a"}, {"id": "b/1"}, {"id": "c"}]}, expect=201)
        body = self.api.get(path + "/instances?id=c&id=nobody&id=b%2F1", expect=200).json
        self.assertEqual(
            ([i["id"] for i in body["items"]], body["missing"], body["next_cursor"]), (["c", "b/1"], ["nobody"], None)
        )

    def test_delete(self):
        path = self.project(dim=1)
        self.api.post(
            path + "/instances",
            {
                "instances": [
                    {"id": n, "features": [1], "gold": "cat", "labels": [{"annotator": "x", "class": "cat"}]}
                    for n in "abcd"
                ]
            },
            expect=201,
        )
        self.api.delete(path + "/instances/a", expect=204)
        self.problem(self.api.get(path + "/instances/a"), 404, "unknown-instance")
        self.problem(self.api.delete(path + "/instances/a"), 404, "unknown-instance")
        self.api.delete(path + "/instances?id=b&id=c", expect=204)
        self.problem(self.api.delete(path + "/instances"), 400, "invalid-query")
        counts = self.api.get(path).json["counts"]
        self.assertEqual((counts["instances"], counts["labels"], counts["gold"]), (1, 1, 1))
        feed = self.api.get(path + "/labels?after_seq=0").json["items"]
        self.assertEqual(sorted(i["instance"] for i in feed if i["deleted"]), ["a", "b", "c"])
        self.assertEqual([i["instance"] for i in feed if not i["deleted"]], ["d"])

    def test_etag(self):
        path = self.project()
        self.api.post(path + "/instances", {"instances": [{"id": "a"}]}, expect=201)
        first = self.api.get(path + "/instances/a")
        self.api.get(path + "/instances/a", headers={"If-None-Match": first.header("ETag")}, expect=304)
        self.api.post(path + "/labels", {"instance": "a", "annotator": "x", "class": "cat"}, expect=201)
        self.api.get(path + "/instances/a", headers={"If-None-Match": first.header("ETag")}, expect=200)

    def test_names_are_compared_byte_for_byte(self):
        path = self.project()
        names = ["é", "e\u0301", " a", "a ", "A", "a", "...", "~", "%41", "x" * 255, "日本語"]
        self.api.post(path + "/instances", {"instances": [{"id": n} for n in names]}, expect=201)
        for name in names:
            self.assertEqual(self.api.get(path + "/instances/" + quote(name), expect=200).json["id"], name)
        self.assertEqual(self.api.get(path).json["counts"]["instances"], len(names))
