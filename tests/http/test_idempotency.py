"""Idempotency-Key: the first answer is replayed, whatever happens in between."""

from harness import SMALL, Case, Client
import synth


class Idempotency(Case):
    def key(self, value="k"):
        return {"Idempotency-Key": value}

    def test_replay_of_a_label(self):
        path = self.project()
        label = {"instance": "i", "annotator": "a", "class": "cat"}
        first = self.api.post(path + "/labels", label, headers=self.key(), expect=201)
        self.assertIsNone(first.header("Idempotency-Replayed"))
        self.api.post(path + "/labels", {**label, "class": "dog"}, expect=200)
        again = self.api.post(path + "/labels", label, headers=self.key(), expect=201)
        self.assertEqual(again.header("Idempotency-Replayed"), "true")
        self.assertEqual(again.body, first.body)
        self.assertEqual(self.api.get(path + "/labels").json["items"][0]["class"], "dog", "a replay writes nothing")
        self.assertEqual(self.api.get(path).json["label_seq"], 2)

    def test_another_body_is_422(self):
        path = self.project()
        self.api.post(
            path + "/labels", {"instance": "i", "annotator": "a", "class": "cat"}, headers=self.key(), expect=201
        )
        answer = self.api.post(
            path + "/labels", {"instance": "i", "annotator": "a", "class": "dog"}, headers=self.key()
        )
        self.problem(answer, 422, "idempotency")
        answer = self.api.post(path + "/instances", {"instances": [{"id": "i"}]}, headers=self.key())
        self.problem(answer, 422, "idempotency")

    def test_keys_belong_to_their_project(self):
        for path in (self.project(), self.project()):
            answer = self.api.post(
                path + "/labels", {"instance": "i", "annotator": "a", "class": "cat"}, headers=self.key(), expect=201
            )
            self.assertIsNone(answer.header("Idempotency-Replayed"))

    def test_refused_requests_keep_no_key(self):
        path = self.project()
        self.api.post(
            path + "/labels", {"instance": "i", "annotator": "a", "class": "cow"}, headers=self.key(), expect=422
        )
        self.api.post(
            path + "/labels", {"instance": "i", "annotator": "a", "class": "cat"}, headers=self.key(), expect=201
        )

    def test_bulk_projects_gold_and_runs(self):
        path = self.project(dim=2)
        crowd = synth.Crowd(40)
        calls = [
            ("/v1/projects", {"name": "idem", "classes": ["a", "b"]}, 201),
            (path + "/instances", {"instances": crowd.instances}, 201),
            (path + "/labels", {"labels": crowd.labels}, 201),
            (path + "/gold", {"gold": [{"instance": i, "class": c} for i, c in crowd.gold.items()]}, 201),
            (path + "/training-runs", {"settings": SMALL}, 202),
        ]
        firsts = [
            self.api.post(target, body, headers=self.key("bulk-%d" % n), expect=status)
            for n, (target, body, status) in enumerate(calls)
        ]
        for n, (target, body, status) in enumerate(calls):
            again = self.api.post(target, body, headers=self.key("bulk-%d" % n), expect=status)
            self.assertEqual(
                (again.body, again.header("Location"), again.header("ETag")),
                (firsts[n].body, firsts[n].header("Location"), firsts[n].header("ETag")),
                target,
            )
            self.assertEqual(again.header("Idempotency-Replayed"), "true", target)
        self.assertEqual(len(self.api.get(path + "/training-runs").json["items"]), 1)

    def test_streams_refuse_it(self):
        path = self.project()
        for answer in (
            self.api.ndjson(path + "/labels", "{}\n", headers=self.key()),
            self.api.csv(path + "/labels", "task,worker,label\n", headers=self.key()),
            self.api.ndjson(path + "/instances", "{}\n", headers=self.key()),
            self.api.csv(path + "/gold", "instance,class\n", headers=self.key()),
        ):
            self.problem(answer, 400, "idempotency")

    def test_keys_are_checked(self):
        path = self.project()
        label = {"instance": "i", "annotator": "a", "class": "cat"}
        for bad in ("", "x" * 256, "a\tb", "caf\xe9"):
            self.problem(self.api.post(path + "/labels", label, headers=self.key(bad)), 400, "idempotency")
        self.api.post(path + "/labels", label, headers=self.key("x" * 255), expect=201)

    def test_body_over_1_mib(self):
        path = self.project()
        body = {"instances": [{"id": "i%d" % i, "metadata": "x" * 20000} for i in range(60)]}
        self.problem(self.api.post(path + "/instances", body, headers=self.key("big")), 400, "idempotency")

    def test_predict_accepts_and_ignores_it(self):
        path = self.project(dim=2)
        synth.Crowd(40).load(self.api, path)
        self.api.train(path.rsplit("/", 1)[1])
        for features in ([0, 1], [1, 0]):
            answer = self.api.post(
                path + "/predict", {"instances": [{"features": features}]}, headers=self.key("p"), expect=200
            )
            self.assertIsNone(answer.header("Idempotency-Replayed"))

    def test_many_at_once_write_once(self):
        import threading

        path = self.project()
        body, answers = {"labels": [{"instance": "i%d" % i, "annotator": "a", "class": "cat"} for i in range(200)]}, []

        def send():
            client = Client(self.server)
            answers.append(client.post(path + "/labels", body, headers=self.key("race")))
            client.close()

        threads = [threading.Thread(target=send) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        statuses = sorted(a.status for a in answers)
        self.assertTrue(set(statuses) <= {201, 409}, statuses)
        self.assertEqual(sum(1 for a in answers if a.status == 201 and a.header("Idempotency-Replayed") is None), 1)
        self.assertEqual(self.api.get(path).json["label_seq"], 200)

    def test_replayed_after_a_restart(self):
        path = self.project()
        label = {"instance": "i", "annotator": "a", "class": "cat"}
        first = self.api.post(path + "/labels", label, headers=self.key("persist"), expect=201)
        self.api.close()
        self.server.kill()
        self.server.start()
        again = self.api.post(path + "/labels", label, headers=self.key("persist"), expect=201)
        self.assertEqual((again.body, again.header("Idempotency-Replayed")), (first.body, "true"))
        self.problem(
            self.api.post(path + "/labels", {**label, "class": "dog"}, headers=self.key("persist")), 422, "idempotency"
        )
