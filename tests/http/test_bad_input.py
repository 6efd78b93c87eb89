"""Bad input: every kind gets a clear problem that names the line or pointer, and changes nothing else."""

import gzip
import json
import zlib

from harness import Case, raw


class BadInput(Case):
    def setUp(self):
        self.path = self.project(dim=2)
        self.api.post(self.path + "/instances", {"instances": [{"id": "there", "features": [1, 2]}]}, expect=201)
        self.api.post(self.path + "/labels", {"instance": "there", "annotator": "a", "class": "cat"}, expect=201)
        self.before = self.state()

    def state(self):
        project = self.api.get(self.path).json
        return project["counts"], project["label_seq"], self.api.get(self.path + "/labels?history=true").json["items"]

    def tearDown(self):
        self.assertEqual(self.state(), self.before, "something was changed")

    def everywhere(self, text, status, kind, headers=None):
        """This body, as JSON, to every operation that takes JSON."""
        text = text if isinstance(text, bytes) else text.encode()
        for method, target in (
            ("POST", "/v1/projects"),
            ("PUT", self.path),
            ("PATCH", self.path),
            ("POST", self.path + "/instances"),
            ("POST", self.path + "/labels"),
            ("POST", self.path + "/gold"),
            ("PUT", self.path + "/gold/there"),
            ("POST", self.path + "/training-runs"),
            ("POST", self.path + "/predict"),
            ("POST", "/v1/tokens"),
        ):
            if kind == "no-body" and target.endswith("training-runs"):
                continue
            answer = self.api.call(
                method, target, text, type="application/json", headers={"If-Match": "*", **(headers or {})}
            )
            wanted = status if isinstance(status, tuple) else (status,)
            if target.endswith("/predict"):
                wanted += (409, 422)  # no model yet; or an unknown field before the broken grammar
            self.assertIn(answer.status, wanted, (method, target, text[:60], answer))

    def line(self, text, target="instances", pointer=None):
        """This one line of NDJSON is rejected with its number; the good one before it is not asked for (atomic)."""
        good = {
            "instances": '{"id":"good","features":[1,2]}',
            "labels": '{"instance":"there","annotator":"b","class":"cat"}',
        }[target]
        text = text if isinstance(text, bytes) else text.encode()
        answer = self.api.ndjson(self.path + "/%s?atomic=true" % target, good.encode() + b"\n" + text + b"\n")
        self.assertEqual(answer.status, 422, (text, answer))
        errors = answer.json["errors"]
        self.assertEqual([e["line"] for e in errors], [2], (text, answer))
        if pointer is not None:
            self.assertEqual(errors[0].get("pointer"), pointer, (text, answer))
        return errors[0]["detail"]

    def test_malformed_json(self):
        for text in (
            "{",
            "{]",
            '{"a":}',
            "{'a':1}",
            '{"a":1,}',
            '{"a" 1}',
            "nul",
            '{"a":"\\x"}',
            '{"a":01}',
            '{"a":1}{"b":2}',
            "\x00",
            '{"a":"\\ud800"}',
            "[" * 100000,
        ):
            self.everywhere(text, 400, "invalid-body")
            self.line(text.replace("\x00", "\x01"))

    def test_not_an_object(self):
        for text in ("[]", '"x"', "5", "null", "true"):
            self.everywhere(text, 422, "invalid-body")
            self.line(text)

    def test_nan_infinity_1e999(self):
        for number in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999"):
            self.assertIn(number, self.line('{"id":"x","features":[1,%s]}' % number, pointer="/features/1"))
            answer = self.api.call(
                "POST",
                self.path + "/instances",
                '{"instances":[{"id":"x","features":[%s,1]}]}' % number,
                type="application/json",
            )
            self.assertIn(answer.status, (400, 422), answer)
            answer = self.api.csv(self.path + "/instances", "instance,split,f0,f1\nx,train,1,%s\n" % number)
            self.problem(answer, 422, "invalid-body", line=2, pointer="/features/1")
            answer = self.api.call(
                "POST", self.path + "/training-runs", '{"settings":{"alpha":%s}}' % number, type="application/json"
            )
            self.assertIn(answer.status, (400, 422), answer)

    def test_numbers_out_of_range(self):
        for number in ("1e6000", "1000001", "-1000000.5", "1e7"):
            self.line('{"id":"x","features":[1,%s]}' % number, pointer="/features/1")

    def test_wrong_feature_length(self):
        for features in ("[]", "[1]", "[1,2,3]"):
            self.assertRegex(self.line('{"id":"x","features":%s}' % features, pointer="/features"), r"\d")
        for features in ('"12"', "{}", "5", "true"):
            self.line('{"id":"x","features":%s}' % features, pointer="/features")
        for element in ('"1"', "null", "[]", "true"):
            self.line('{"id":"x","features":[1,%s]}' % element, pointer="/features/1")

    def test_duplicate_keys(self):
        self.line('{"id":"x","id":"y"}', pointer="/id")
        self.line('{"instance":"there","annotator":"b","class":"cat","class":"dog"}', "labels", pointer="/class")
        self.line('{"id":"x","metadata":{"a":1,"a":2}}', pointer="/metadata")
        for target, text in (
            (self.path + "/labels", '{"instance":"there","annotator":"b","class":"cat","class":"dog"}'),
            (self.path + "/training-runs", '{"seed":1,"seed":2}'),
            ("/v1/projects", '{"name":"dup","classes":["a","b"],"name":"dup2"}'),
            (self.path + "/predict", '{"instances":[],"instances":[]}'),
        ):
            answer = self.api.call("POST", target, text, type="application/json")
            if answer.status != 409:
                self.assertIn(answer.status, (400, 422), answer)
                self.assertEqual(
                    answer.json["type"],
                    (
                        "/problems/invalid-body"
                        if answer.json["type"] != "/problems/invalid-setting"
                        else "/problems/invalid-setting"
                    ),
                )

    def test_duplicate_ids_in_one_body(self):
        answer = self.api.post(
            self.path + "/instances?atomic=true", {"instances": [{"id": "x"}, {"id": "y"}, {"id": "x"}]}
        )
        self.problem(answer, 422, "invalid-body", line=3)

    def test_unknown_fields(self):
        self.line('{"id":"x","feature":[1,2]}', pointer="/feature")
        self.line('{"instance":"there","annotator":"b","class":"cat","colour":1}', "labels", pointer="/colour")
        self.line('{"id":"x","labels":[{"annotator":"a","class":"cat","instance":"y"}]}', pointer="/labels/0/instance")
        self.problem(
            self.api.post(self.path + "/labels", {"labels": [], "more": 1}), 422, "invalid-body", pointer="/more"
        )
        self.problem(
            self.api.put(self.path + "/gold/there", {"class": "cat", "x": 1}), 422, "invalid-body", pointer="/x"
        )

    def test_unknown_class(self):
        self.assertIn(
            "cow", self.line('{"instance":"there","annotator":"b","class":"cow"}', "labels", pointer="/class")
        )
        self.line('{"id":"x","gold":"cow"}', pointer="/gold")
        self.problem(self.api.put(self.path + "/gold/there", {"class": "CAT"}), 422, "unknown-class", pointer="/class")
        self.problem(
            self.api.csv(self.path + "/labels", "task,worker,label\nthere,b,cow\n"), 422, "invalid-body", line=2
        )

    def test_unknown_instance(self):
        self.line('{"instance":"nobody","annotator":"b","class":"cat"}', "labels")
        self.problem(
            self.api.post(self.path + "/labels", {"instance": "nobody", "annotator": "b", "class": "cat"}),
            404,
            "unknown-instance",
        )
        self.problem(self.api.put(self.path + "/gold/nobody", {"class": "cat"}), 404, "unknown-instance")
        self.problem(self.api.get(self.path + "/instances/nobody"), 404, "unknown-instance")

    def test_empty_body(self):
        self.everywhere(b"", (400, 422, 202, 409), "no-body")
        for type in ("application/x-ndjson", "text/csv", "application/json"):
            answer = self.api.call("POST", self.path + "/labels", b"", type=type)
            self.assertIn(answer.status, (200, 400, 422), (type, answer))

    def test_empty_lists_are_fine(self):
        answer = self.api.post(self.path + "/labels", {"labels": []}, expect=200).json
        self.assertEqual((answer["accepted"], answer["rejected"]), (0, 0))

    def test_invalid_utf8(self):
        for bad in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"):
            self.line(b'{"id":"x' + bad + b'"}')
            self.line(b'{"instance":"there","annotator":"' + bad + b'","class":"cat"}', "labels")
            self.everywhere(b'{"name":"x' + bad + b'"}', 400, "invalid-body")
            answer = self.api.csv(self.path + "/labels", b"task,worker,label\nthere," + bad + b",cat\n")
            self.assertEqual(answer.status, 422, answer)
            self.assertEqual([e["line"] for e in answer.json["errors"]], [2])

    def test_control_characters_in_ids(self):
        for bad in ("\\u0000", "\\u0001", "\\n", "\\u007f", "\\u0085"):
            self.line('{"id":"x%s"}' % bad)
            self.line('{"instance":"there","annotator":"x%s","class":"cat"}' % bad, "labels")
        self.line(b'{"id":"x\x01"}')
        self.assertIn(self.api.get(self.path + "/instances/a%0Ab").status, (400, 404))

    def test_ids_over_255_bytes_and_dots(self):
        for bad in ("x" * 256, "é" * 128, "", ".", ".."):
            self.line(json.dumps({"id": bad}), pointer="/id")
            self.line(
                json.dumps({"instance": "there", "annotator": bad, "class": "cat"}), "labels", pointer="/annotator"
            )
        self.assertIn(self.api.get(self.path + "/instances/" + "x" * 300).status, (400, 404))

    def test_truncated_gzip(self):
        body = gzip.compress(b'{"labels":[{"instance":"there","annotator":"b","class":"cat"}]}')
        packed = {"Content-Encoding": "gzip"}
        for cut in (1, 5, 12, len(body) - 8, len(body) - 1):
            answer = self.api.call("POST", self.path + "/labels", body[:cut], type="application/json", headers=packed)
            self.problem(answer, 400, "invalid-body")
        broken = bytearray(body)
        broken[-6] ^= 1
        self.problem(
            self.api.call("POST", self.path + "/labels", bytes(broken), type="application/json", headers=packed),
            400,
            "invalid-body",
        )
        self.problem(
            self.api.call("POST", self.path + "/labels", b"no gzip", type="application/json", headers=packed),
            400,
            "invalid-body",
        )

    def test_truncated_gzip_of_a_stream_keeps_what_came(self):
        lines = b"".join(b'{"instance":"there","annotator":"b","class":"cow"}\n' for _ in range(10))
        body = gzip.compress(lines)
        answer = self.api.ndjson(self.path + "/labels", body[:-9], headers={"Content-Encoding": "gzip"})
        self.assertIn(answer.status, (400, 422), answer)

    def test_gzip_bomb(self):
        bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
        data = bomb.compress(b" " * (64 << 20)) + bomb.flush()
        answer = self.api.call(
            "POST", self.path + "/labels", data, type="application/json", headers={"Content-Encoding": "gzip"}
        )
        self.problem(answer, 413, "too-large")
        # In a stream the bomb is one endless line.
        answer = self.api.ndjson(self.path + "/labels", data, headers={"Content-Encoding": "gzip"})
        self.assertIn(answer.status, (400, 413, 422), answer)

    def test_csv_with_a_wrong_header(self):
        for target, header in (
            ("labels", "x,y,z"),
            ("gold", "instance,klass"),
            ("instances", "instance,split,f1,f2"),
            ("labels", ""),
        ):
            answer = self.api.csv(self.path + "/" + target, header + "\n1,2,3,4\n")
            self.assertIn(answer.status, (400, 422), answer)
            self.assertEqual(answer.json["type"], "/problems/invalid-body")
            self.assertIn(1, [e.get("line") for e in answer.json["errors"]], answer)

    def test_csv_with_an_open_quote_or_too_few_cells(self):
        for row in ('"there,b,cat', "there,b", "there,b,cat,extra", '"the"re,b,cat'):
            answer = self.api.csv(self.path + "/labels?atomic=true", "task,worker,label\n%s\n" % row)
            self.assertIn(answer.status, (400, 422), (row, answer))
            self.assertEqual([e.get("line") for e in answer.json["errors"]], [2], (row, answer))

    def test_negative_and_huge_numbers_in_settings(self):
        for key in (
            "alpha",
            "eta",
            "dropout",
            "annotator_embedding",
            "epochs",
            "batch_size",
            "learning_rate",
            "annotator_learning_rate",
            "weight_decay",
            "annotator_weight_decay",
        ):
            for number in (-1, -1e308, 1e308, 10**19, -(10**30)):
                answer = self.api.post(self.path + "/training-runs", {"settings": {key: number}})
                self.assertIn(answer.status, (400, 422), (key, number, answer))
                if answer.status == 422:
                    self.assertIn("/settings/" + key, [e.get("pointer") for e in answer.json["errors"]])
        for body in (
            {"settings": {"hidden": [-1]}},
            {"settings": {"hidden": [10**12]}},
            {"seed": -1},
            {"seed": 2**53},
            {"ensemble": 10**9},
        ):
            self.assertEqual(self.api.post(self.path + "/training-runs", body).status, 422, body)

    def test_training_with_no_labels_or_one_class(self):
        self.problem(self.api.post(self.path + "/training-runs", {}), 409, "nothing-to-train")
        empty = self.project(dim=2)
        self.problem(self.api.post(empty + "/training-runs", {}), 409, "nothing-to-train")

    def test_deep_and_wide_json(self):
        deep = "[" * 1000 + "]" * 1000
        self.line('{"id":"x","metadata":%s}' % deep)
        self.assertIn(
            self.api.call(
                "POST", self.path + "/training-runs", '{"settings":%s}' % deep, type="application/json"
            ).status,
            (400, 422),
        )
        wide = json.dumps({"k%d" % i: i for i in range(20000)})
        self.assertIn(self.api.call("POST", self.path + "/labels", wide, type="application/json").status, (400, 422))


class GoodInput(Case):
    """What looks odd and is right."""

    def test_last_ndjson_line_without_newline(self):
        path = self.project()
        text = '{"instance":"a","annotator":"x","class":"cat"}\r\n\n{"instance":"b","annotator":"x","class":"cat"}'
        self.assertEqual(self.api.ndjson(path + "/labels", text, expect=201).json["created"], 2)

    def test_csv_with_quotes_crlf_and_no_last_newline(self):
        path = self.project(classes=["a,b", 'say "c"'])
        text = 'task,worker,label\r\n"one, two",w,"a,b"\r\nthree,"w ""x""","say ""c"""'
        self.assertEqual(self.api.csv(path + "/labels", text, expect=201).json["created"], 2)
        items = self.api.get(path + "/labels").json["items"]
        self.assertEqual(
            [(i["instance"], i["annotator"], i["class"]) for i in items],
            [("one, two", "w", "a,b"), ("three", 'w "x"', 'say "c"')],
        )

    def test_byte_order_mark(self):
        path = self.project()
        answer = self.api.csv(path + "/labels", b"\xef\xbb\xbftask,worker,label\na,x,cat\n")
        self.assertEqual(answer.status, 201, answer)

    def test_escapes_in_json(self):
        path = self.project()
        self.api.call(
            "POST",
            path + "/labels",
            b'{"\\u0069nstance":"\\u00e9\\ud83d\\ude00\\/","annotator":"\\"","class":"c\\u0061t"}',
            type="application/json",
            expect=201,
        )
        item = self.api.get(path + "/labels").json["items"][0]
        self.assertEqual((item["instance"], item["annotator"]), ("é😀/", '"'))
