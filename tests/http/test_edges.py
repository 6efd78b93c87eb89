"""Where two features meet: a model older than its project, big answers, many classes, slow clients, many clients
at once.
"""

import http.client
import json
import random
import socket
import threading

import synth
from harness import SMALL, Case, Client, until


class OlderModel(Case):
    """What is asked of a model after the project has moved on."""

    weight = 2
    args = ("--trainers", "1")

    def trained(self):
        path = self.project(classes=synth.CLASSES, dim=2)
        crowd = synth.Crowd(50)
        crowd.load(self.api, path)
        self.api.train(path.rsplit("/", 1)[1])
        return path, crowd

    def everything(self, path):
        """All derived answers; each is checked against the document by the client."""
        for target in (
            "/consensus",
            "/reliability",
            "/predictions",
            "/consensus?format=csv",
            "/reliability?format=csv",
            "/predictions?format=csv",
            "/predictions?format=ndjson",
            "/annotators",
            "/models/1",
            "/training-runs/1",
        ):
            self.api.get(path + target, expect=200)
        self.api.post(
            path + "/predict",
            {
                "instances": [{"features": [0, 0]}, {"id": "i0001"}],
                "annotators": ["expert", "x"],
                "return": ["p_class", "p_perf", "p_annotation", "p_confusion"],
            },
            expect=200,
        )

    def test_classes_appended_after_training(self):
        path, _ = self.trained()
        self.api.patch(path, {"classes": synth.CLASSES + ["parrot", "fish"]}, headers={"If-Match": "*"}, expect=200)
        self.api.post(
            path + "/labels",
            {"labels": [{"instance": "i0001", "annotator": a, "class": "fish"} for a in ("expert", "somebody")]},
            expect=200,
        )
        self.api.put(path + "/gold/i0001", {"class": "parrot"}, expect=200)
        self.everything(path)
        body = self.api.get(path + "/consensus/i0001", expect=200).json
        if body["posterior"] is not None:
            self.assertEqual(len(body["posterior"]), len(body["classes"]))
        self.assertEqual(self.api.get(path + "/predictions?limit=1").json["classes"], synth.CLASSES)
        labels_only = self.api.get(path + "/consensus/i0001?method=majority_vote", expect=200).json
        self.assertEqual(len(labels_only["posterior"]), 5)
        self.assertEqual(labels_only["class"], "fish")
        run = self.api.train(path.rsplit("/", 1)[1])
        self.assertEqual(
            self.api.get(path + "/predictions?limit=1").json["classes"], synth.CLASSES + ["parrot", "fish"]
        )
        self.assertEqual(run["model"], 2)
        self.api.post(path + "/models/1/activate", expect=200)
        self.everything(path)

    def test_retired_class(self):
        path, _ = self.trained()
        self.api.patch(path, {"retired_classes": ["cat"]}, headers={"If-Match": "*"}, expect=200)
        self.everything(path)
        self.api.train(path.rsplit("/", 1)[1])
        self.everything(path)

    def test_annotators_and_instances_deleted_and_new(self):
        path, crowd = self.trained()
        self.api.delete(path + "/annotators/expert", expect=204)
        self.api.delete(path + "/instances/i0002", expect=204)
        self.api.post(
            path + "/instances", {"instances": [{"id": "fresh", "features": [1, 1]}, {"id": "bare"}]}, expect=201
        )
        self.api.post(
            path + "/labels",
            {"labels": [{"instance": i, "annotator": "newcomer", "class": "dog"} for i in ("fresh", "bare", "i0001")]},
            expect=201,
        )
        self.everything(path)
        items = {i["annotator"]: i for i in self.api.get(path + "/reliability").json["items"]}
        self.assertNotIn("expert", items)
        self.assertEqual((items["newcomer"]["evidence"], items["newcomer"]["labels"]), (0, 3))
        self.assertIsNotNone(items["newcomer"]["reliability"], "unseen: the population prior")
        ids = [p["id"] for p in self.api.get(path + "/predictions?limit=1000").json["items"]]
        self.assertIn("fresh", ids)
        self.assertNotIn("i0002", ids)
        self.api.get(path + "/consensus/bare", expect=200)
        self.api.post(path + "/labels", {"instance": "i0001", "annotator": "expert", "class": "dog"}, expect=201)
        self.everything(path)

    def test_features_changed(self):
        path, _ = self.trained()
        before = self.api.get(path + "/predictions?id=i0001").json["items"][0]
        self.api.post(path + "/instances", {"instances": [{"id": "i0001", "features": [5, -5]}]}, expect=200)
        after = self.api.get(path + "/predictions?id=i0001").json["items"][0]
        self.assertNotEqual(before["p_class"], after["p_class"])

    def test_imported_model_answers_everything(self):
        path, crowd = self.trained()
        data = self.api.get(path + "/models/1/file", expect=200).body
        other = self.project(classes=synth.CLASSES, dim=2)
        self.api.ndjson(other + "/instances", crowd.instances[:10], expect=201)
        self.api.post(other + "/labels", {"instance": "i0001", "annotator": "local", "class": "cat"}, expect=201)
        self.api.call("POST", other + "/models", data, type="application/vnd.annotmix.model", expect=201)
        self.api.post(other + "/models/1/activate", expect=200)
        for target in (
            "/consensus",
            "/reliability",
            "/predictions",
            "/annotators",
            "/reliability/expert",
            "/reliability/local",
            "/reliability/expert?instance=i0001",
            "/consensus/i0001",
            "/models",
        ):
            self.api.get(other + target, expect=200)

    def test_project_deleted_while_a_run_runs(self):
        path, _ = self.trained()
        run = self.api.post(path + "/training-runs", {"settings": {"epochs": 10000, "hidden": [64]}}, expect=202).json[
            "id"
        ]
        until(lambda: self.api.get(path + "/training-runs/%d" % run).json["state"] == "running", "a running run")
        self.api.delete(path, expect=204)
        name = path.rsplit("/", 1)[1]
        self.api.post("/v1/projects", {"name": name, "classes": synth.CLASSES, "feature_dim": 2}, expect=201)
        self.assertEqual(self.api.get(path + "/training-runs").json["items"], [])
        synth.Crowd(40).load(self.api, path)
        self.assertEqual(self.api.train(name)["model"], 1)
        self.everything(path)


class Wide(Case):
    args = ("--trainers", "1")

    def test_two_hundred_classes_and_many_features(self):
        classes = ["class-%03d" % i for i in range(200)]
        path = self.project(classes=classes, dim=300)
        rng = random.Random(1)
        rows = [
            {
                "id": "i%d" % i,
                "features": [round(rng.gauss(0, 1), 3) for _ in range(300)],
                "labels": [{"annotator": "a%d" % a, "class": classes[i % 200]} for a in range(2)],
            }
            for i in range(60)
        ]
        self.api.ndjson(path + "/instances", rows, expect=201)
        self.api.train(path.rsplit("/", 1)[1], settings={"epochs": 1})
        body = self.api.post(
            path + "/predict",
            {"instances": [{"id": "i1"}], "annotators": ["a0"], "return": ["p_class", "p_confusion"]},
            expect=200,
        ).json
        self.assertEqual(len(body["predictions"][0]["annotators"]["a0"]["p_confusion"]), 200)
        self.assertEqual(len(self.api.get(path + "/reliability/a0", expect=200).json["confusion"]), 200)
        self.api.get(path + "/consensus", expect=200)

    def test_a_thousand_classes_are_the_limit(self):
        path = self.project(classes=["c%d" % i for i in range(1000)])
        self.api.post(path + "/labels", {"instance": "i", "annotator": "a", "class": "c999"}, expect=201)
        answer = self.api.patch(path, {"classes": ["c%d" % i for i in range(1001)]}, headers={"If-Match": "*"})
        self.assertEqual(answer.status, 422, answer)
        self.assertEqual(self.api.get(path + "/consensus/i").json["class"], "c999")

    def test_a_thousand_ids_by_query(self):
        path = self.project()
        names = ["6ba7b810-9dad-11d1-80b4-00c04fd%05d" % i for i in range(1000)]
        self.api.post(path + "/instances", {"instances": [{"id": n} for n in names]}, expect=201)
        for target in ("/instances", "/consensus"):
            items = self.api.get(path + target + "?" + "&".join("id=" + n for n in reversed(names)), expect=200).json[
                "items"
            ]
            self.assertEqual([i.get("id") or i["instance"] for i in items], names[::-1])
        self.problem(
            self.api.get(path + "/instances?" + "&".join("id=" + n for n in names + ["more"])), 400, "invalid-query"
        )

    def test_too_many_parameters_are_refused_not_left_hanging(self):
        from harness import raw

        for n in (5000, 12000):
            target = "/v1/projects?" + "&".join("id=%d" % i for i in range(n))
            answer = raw(
                self.server.port,
                ("GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n" % target).encode(),
                timeout=10,
            )
            self.assertRegex(answer, rb"^HTTP/1\.1 (414|431|400) ")

    def test_result_lines_of_a_long_stream(self):
        path = self.project()
        rows = [{"instance": "i%d" % i, "annotator": "a", "class": "cat" if i % 10 else "cow"} for i in range(20000)]
        lines = self.api.ndjson(path + "/labels", rows, headers={"Accept": "application/x-ndjson"}, expect=200).lines
        self.assertEqual([r["line"] for r in lines], list(range(1, 20001)))
        self.assertEqual(sum(r["status"] == "rejected" for r in lines), 2000)
        self.assertEqual(self.api.get(path).json["counts"]["labels"], 18000)
        pages = self.api.pages(path + "/labels", 1000)
        self.assertEqual(len(pages), 18000)
        table = self.api.get(path + "/consensus?format=csv", expect=200).body.splitlines()
        self.assertEqual(len(table), 18001)


class SlowClients(Case):
    args = ("--header-seconds", "1", "--body-seconds", "1", "--idle-seconds", "1", "--send-seconds", "1")

    def closes(self, first, drip):
        """Sends `first`, then `drip` again and again: the server must end it."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as s:
            s.sendall(first)
            s.settimeout(0.1)

            def ended():
                try:
                    s.sendall(drip)
                    return s.recv(65536) == b""
                except TimeoutError:
                    return False
                except OSError:
                    return True

            until(ended, "the end of a slow connection", 30)

    def test_dripping_headers(self):
        self.closes(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", b"X-A: b\r\n")

    def test_dripping_body(self):
        self.closes(
            b"POST /v1/projects HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n",
            b" ",
        )

    def test_idle(self):
        self.closes(b"", b"")

    def test_others_are_served_meanwhile(self):
        slow = [socket.create_connection(("127.0.0.1", self.server.port)) for _ in range(50)]
        for s in slow:
            s.sendall(b"GET /livez HTTP/1.1\r\n")
        for _ in range(20):
            self.api.get("/v1/projects", expect=200)
        for s in slow:
            s.close()


class ManyClients(Case):
    """Readers, writers and a trainer at once; what thread sanitizers and lost updates are looked for with."""

    weight = 2
    args = ("--trainers", "2", "--threads", "3")

    def test_everything_at_once(self):
        paths = [self.project(classes=synth.CLASSES, dim=2) for _ in range(2)]
        crowd = synth.Crowd(60)
        for path in paths:
            crowd.load(self.api, path)
            self.api.train(path.rsplit("/", 1)[1])
        errors, wrote = [], []

        def work(number):
            rng, client = random.Random(number), Client(self.server)
            try:
                for step in range(40):
                    path = rng.choice(paths)
                    what = rng.randrange(8)
                    if what < 3:
                        row = {
                            "instance": rng.choice(crowd.instances)["id"],
                            "annotator": "t%d" % number,
                            "class": rng.choice(synth.CLASSES),
                        }
                        answer = client.post(path + "/labels", row, expect=(200, 201))
                        wrote.append((path, row["instance"], row["annotator"], answer.json["seq"], row["class"]))
                    elif what == 3:
                        client.post(
                            path + "/predict",
                            {
                                "instances": [{"features": [rng.random(), 1]}],
                                "annotators": ["expert"],
                                "return": ["p_perf"],
                            },
                            expect=200,
                        )
                    elif what == 4:
                        client.get(
                            path + rng.choice(("/consensus", "/reliability", "/predictions?format=csv", "")), expect=200
                        )
                    elif what == 5:
                        client.post(
                            path + "/training-runs",
                            {"seed": step, "settings": {**SMALL, "epochs": 2}},
                            expect=(200, 202),
                        )
                    elif what == 6:
                        client.ndjson(
                            path + "/instances", [{"id": "n%d-%d" % (number, step), "features": [1, 2]}], expect=201
                        )
                    else:
                        client.get("/metrics", expect=200)
                client.close()
            except BaseException as problem:  # noqa: BLE001 (told in the main thread)
                errors.append(problem)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(errors, [])
        for path in paths:
            now = {(i["instance"], i["annotator"]): i for i in self.api.pages(path + "/labels", 1000)}
            last = {}
            for p, instance, annotator, seq, klass in wrote:
                if p == path and seq >= last.get((instance, annotator), (0,))[0]:
                    last[(instance, annotator)] = (seq, klass)
            for pair, (seq, klass) in last.items():
                self.assertEqual((now[pair]["seq"], now[pair]["class"]), (seq, klass), pair)
            for run in self.api.pages(path + "/training-runs", 100):
                self.api.wait(path.rsplit("/", 1)[1], run["id"])
            self.assertEqual(self.api.get(path).json["counts"]["labels"], len(now))

    def test_streams_that_are_left_early(self):
        path = self.project()
        self.api.ndjson(
            path + "/labels",
            [{"instance": "i%d" % i, "annotator": "a", "class": "cat"} for i in range(5000)],
            expect=201,
        )
        for _ in range(10):
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
            connection.request("GET", path + "/consensus?format=ndjson")
            connection.getresponse().read(100)
            connection.close()
        self.api.get("/readyz", expect=200)
        done = json.loads(self.api.get(path + "/consensus?format=ndjson", expect=200).body.splitlines()[-1])
        self.assertEqual(done["instance"], "i4999")
