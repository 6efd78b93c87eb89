"""Projects: made, listed, matched, patched, deleted."""

from harness import Case


class Projects(Case):
    def test_create_as_on_the_wire(self):
        answer = self.api.post(
            "/v1/projects",
            {
                "name": "music",
                "title": "Music genres",
                "classes": ["blues", "classical", "rock"],
                "feature_dim": 124,
                "settings": {
                    "overlap": 3,
                    "resolve_threshold": 0.95,
                    "auto_train": {"every_labels": 500},
                    "training": {"method": "annot_mix"},
                },
            },
            expect=201,
        )
        self.assertEqual(answer.header("Location"), "/v1/projects/music")
        body = answer.json
        self.assertEqual(body["classes"], ["blues", "classical", "rock"])
        self.assertEqual(
            {k: body["counts"][k] for k in ("instances", "annotators", "labels", "gold")},
            {"instances": 0, "annotators": 0, "labels": 0, "gold": 0},
        )
        self.assertEqual((body["active_model"], body["label_seq"], body["feature_dim"]), (None, 0, 124))
        got = self.api.get("/v1/projects/music", expect=200)
        self.assertEqual(got.json, body)
        self.assertEqual(got.header("ETag"), answer.header("ETag"))
        self.problem(self.api.post("/v1/projects", {"name": "music", "classes": ["a", "b"]}), 409, "conflict")

    def test_defaults(self):
        body = self.api.post("/v1/projects", {"name": "plain", "classes": ["a", "b"]}, expect=201).json
        self.assertEqual((body["title"], body["feature_dim"], body["settings"]), (None, 0, {}))

    def test_wrong_fields_are_422_with_pointer(self):
        good = {"name": "wrong", "classes": ["a", "b"]}
        for change, pointer in [
            ({"name": "-x"}, "/name"),
            ({"name": ""}, "/name"),
            ({"name": "a" * 65}, "/name"),
            ({"name": "a b"}, "/name"),
            ({"name": 7}, "/name"),
            ({"classes": ["a"]}, "/classes"),
            ({"classes": "ab"}, "/classes"),
            ({"classes": ["a", "a"]}, "/classes/1"),
            ({"classes": ["a", ""]}, "/classes/1"),
            ({"classes": ["a", "b\n"]}, "/classes/1"),
            ({"classes": ["a", "x" * 256]}, "/classes/1"),
            ({"classes": ["a", 5]}, "/classes/1"),
            ({"classes": ["c%d" % i for i in range(1001)]}, "/classes"),
            ({"feature_dim": -1}, "/feature_dim"),
            ({"feature_dim": 16385}, "/feature_dim"),
            ({"feature_dim": 1.5}, "/feature_dim"),
            ({"feature_dim": "2"}, "/feature_dim"),
            ({"titel": "x"}, "/titel"),
            ({"settings": []}, "/settings"),
            ({"settings": {"overlop": 3}}, "/settings/overlop"),
            ({"settings": {"overlap": 0}}, "/settings/overlap"),
            ({"settings": {"resolve_threshold": 1.5}}, "/settings/resolve_threshold"),
            ({"settings": {"auto_train": {"every_labels": 0}}}, "/settings/auto_train/every_labels"),
            ({"settings": {"training": {"settings": {"alpha": 11}}}}, "/settings/training/settings/alpha"),
            ({"settings": {"training": {"settings": {"epoch": 3}}}}, "/settings/training/settings/epoch"),
            ({"settings": {"training": {"seed": -1}}}, "/settings/training/seed"),
        ]:
            answer = self.api.post("/v1/projects", {**good, **change})
            self.assertEqual(answer.status, 422, (change, answer))
            self.assertIn(answer.json["type"], ("/problems/invalid-body", "/problems/invalid-setting"))
            self.assertIn(pointer, [e.get("pointer") for e in answer.json["errors"]], (change, answer))
        for missing in ("name", "classes"):
            answer = self.api.post("/v1/projects", {k: v for k, v in good.items() if k != missing})
            self.problem(answer, 422, "invalid-body", pointer="/" + missing)
        self.api.get("/v1/projects/wrong", expect=404)

    def test_classes_may_be_any_text(self):
        classes = ["ü", "日本", "a/b", "=1+1", "with space", "." * 3, "x" * 255, '"']
        path = self.project(classes=classes)
        self.assertEqual(self.api.get(path).json["classes"], classes)
        self.api.post(path + "/labels", {"instance": "i", "annotator": "a", "class": "日本"}, expect=201)

    def test_put_makes_or_matches(self):
        body = {"classes": ["a", "b"], "feature_dim": 3}
        made = self.api.put("/v1/projects/put-me", body, expect=201)
        self.assertEqual(made.header("Location"), "/v1/projects/put-me")
        self.assertEqual(self.api.put("/v1/projects/put-me", body, expect=200).json["uid"], made.json["uid"])
        self.api.put("/v1/projects/put-me", {**body, "name": "put-me"}, expect=200)
        self.problem(self.api.put("/v1/projects/put-me", {**body, "classes": ["b", "a"]}), 409, "conflict")
        self.problem(self.api.put("/v1/projects/put-me", {**body, "feature_dim": 4}), 409, "conflict")
        self.problem(self.api.put("/v1/projects/put-me", {**body, "title": "other"}), 409, "conflict")
        self.problem(
            self.api.put("/v1/projects/put-me", {**body, "name": "other"}), 422, "invalid-body", pointer="/name"
        )
        self.problem(self.api.put("/v1/projects/bad%20name", body), 422, "invalid-body")

    def test_list_pages_in_order(self):
        names = ["list-%02d" % i for i in range(7)]
        for name in names:
            self.api.post("/v1/projects", {"name": name, "classes": ["a", "b"]}, expect=201)
        found = [p["name"] for p in self.api.pages("/v1/projects", 3)]
        self.assertEqual([n for n in found if n in names], names)
        self.assertEqual(len(found), len(set(found)))

    def test_patch(self):
        path = self.project(title="old", settings={"overlap": 2, "resolve_threshold": 0.9})
        before = self.api.get(path)
        tag = {"If-Match": before.header("ETag")}
        self.problem(self.api.patch(path, {"title": "x"}), 428, "precondition-required")
        self.problem(
            self.api.patch(path, {"title": "x"}, headers={"If-Match": '"nonsense"'}), 412, "precondition-failed"
        )
        after = self.api.patch(path, {"title": "new", "settings": {"overlap": 5}}, headers=tag, expect=200)
        self.assertEqual(after.json["title"], "new")
        self.assertEqual(after.json["settings"], {"overlap": 5, "resolve_threshold": 0.9}, "a merge patch merges")
        self.assertNotEqual(after.header("ETag"), before.header("ETag"))
        self.problem(self.api.patch(path, {"title": "x"}, headers=tag), 412, "precondition-failed")
        star = {"If-Match": "*"}
        gone = self.api.call(
            "PATCH",
            path,
            b'{"title":null,"settings":{"overlap":null}}',
            type="application/merge-patch+json",
            headers=star,
            expect=200,
        ).json
        self.assertEqual((gone["title"], gone["settings"]), (None, {"resolve_threshold": 0.9}))

    def test_patch_appends_and_retires_classes_and_nothing_else(self):
        path = self.project(classes=["a", "b"])
        star = {"If-Match": "*"}
        body = self.api.patch(path, {"classes": ["a", "b", "c"]}, headers=star, expect=200).json
        self.assertEqual(body["classes"], ["a", "b", "c"])
        self.api.post(path + "/labels", {"instance": "i", "annotator": "x", "class": "c"}, expect=201)
        for classes in (["b", "a", "c"], ["a", "b"], ["a", "c", "b"], ["a", "b", "c", "a"], ["a", "x", "c"]):
            answer = self.api.patch(path, {"classes": classes}, headers=star)
            self.assertEqual(answer.status, 422, (classes, answer))
        body = self.api.patch(path, {"retired_classes": ["b"]}, headers=star, expect=200).json
        self.assertEqual((body["classes"], body["retired_classes"]), (["a", "b", "c"], ["b"]))
        self.problem(
            self.api.post(path + "/labels", {"instance": "i", "annotator": "y", "class": "b"}), 422, "unknown-class"
        )
        self.assertEqual(
            self.api.patch(path, {"retired_classes": []}, headers=star, expect=200).json["retired_classes"], []
        )
        for change in ({"name": "other"}, {"feature_dim": 3}, {"uid": "x"}, {"settings": {"nope": 1}}, {"title": 5}):
            self.assertEqual(self.api.patch(path, change, headers=star).status, 422, change)

    def test_patch_of_settings_keeps_through_label_writes(self):
        path = self.project()
        tag = {"If-Match": self.api.get(path).header("ETag")}
        self.api.post(path + "/labels", {"instance": "i", "annotator": "y", "class": "cat"}, expect=201)
        self.api.patch(path, {"title": "counts may move meanwhile"}, headers=tag, expect=200)

    def test_delete_frees_the_name_but_not_the_uid(self):
        path = self.project()
        first = self.api.get(path)
        self.api.post(path + "/labels", {"instance": "i", "annotator": "y", "class": "cat"}, expect=201)
        self.api.delete(path, expect=204)
        self.problem(self.api.get(path), 404, "unknown-project")
        self.problem(self.api.delete(path), 404, "unknown-project")
        self.problem(self.api.get(path + "/labels"), 404, "unknown-project")
        name = path.rsplit("/", 1)[1]
        again = self.api.post("/v1/projects", {"name": name, "classes": ["cat", "dog", "rabbit"]}, expect=201)
        self.assertNotEqual(again.json["uid"], first.json["uid"])
        self.assertNotEqual(again.header("ETag"), first.header("ETag"))
        self.assertEqual(again.json["counts"]["labels"], 0)
        self.assertEqual(self.api.get(path + "/labels").json["items"], [])

    def test_etag_304(self):
        path = self.project()
        answer = self.api.get(path)
        same = self.api.get(path, headers={"If-None-Match": answer.header("ETag")}, expect=304)
        self.assertEqual(same.header("ETag"), answer.header("ETag"))
        self.api.get(path, headers={"If-None-Match": '"x", W/"y", ' + answer.header("ETag")}, expect=304)
        self.api.get(path, headers={"If-None-Match": "*"}, expect=304)
        self.api.get(path, headers={"If-None-Match": '"other"'}, expect=200)
        self.api.post(path + "/labels", {"instance": "i", "annotator": "y", "class": "cat"}, expect=201)
        self.api.get(path, headers={"If-None-Match": answer.header("ETag")}, expect=200)

    def test_cursor_of_another_list_is_refused(self):
        a, b = self.project(), self.project()
        for path in (a, b):
            self.api.ndjson(
                path + "/labels", [{"instance": "i%d" % i, "annotator": "y", "class": "cat"} for i in range(3)]
            )
        cursor = self.api.get(a + "/labels?limit=1").json["next_cursor"]
        self.assertRegex(cursor, r"^[A-Za-z0-9_-]+$")
        self.api.get(a + "/labels?limit=2&cursor=" + cursor, expect=200)
        for target in (
            b + "/labels?cursor=",
            a + "/instances?cursor=",
            a + "/labels?annotator=y&cursor=",
            a + "/labels?history=true&cursor=",
        ):
            self.problem(self.api.get(target + cursor), 400, "invalid-query")
