"""Training runs: queue, wait, cancel, events, coalescing, settings, auto_train, restart."""

import http.client
import json

import synth
from harness import SMALL, Case, Server, Client, until


class Training(synth.CrowdCase):
    weight = 4
    args = ("--trainers", "1")
    crowd_size = 80

    def slow(self, path, seed=1):
        """A run that takes long, once it is running."""
        run = self.api.post(
            path + "/training-runs", {"seed": seed, "settings": {"epochs": 10000, "hidden": [64]}}, expect=202
        ).json
        until(lambda: self.api.get(path + "/training-runs/%d" % run["id"]).json["state"] == "running", "a running run")
        return run["id"]

    def test_from_queue_to_model(self):
        path, name = self.loaded()
        answer = self.api.post(path + "/training-runs", {"seed": 3, "settings": SMALL}, expect=202)
        queued = answer.json
        self.assertEqual(answer.header("Location"), path + "/training-runs/%d" % queued["id"])
        self.assertEqual((queued["id"], queued["project"], queued["method"], queued["seed"]), (1, name, "annot_mix", 3))
        self.assertIn(queued["state"], ("queued", "running"))
        self.assertEqual(queued["settings"]["epochs"], SMALL["epochs"])
        self.assertEqual(queued["settings"]["alpha"], 1.0)
        run = self.api.wait(name, queued["id"])
        self.assertEqual((run["model"], run["activated"], run["error"]), (1, True, None))
        self.assertEqual(len(run["loss_curve"]), SMALL["epochs"])
        train = {i["id"] for i in self.crowd.instances if i["split"] == "train"}
        self.assertEqual(run["labels_used"], sum(1 for v in self.crowd.labels if v["instance"] in train))
        self.assertEqual(run["instances_used"], len(train))
        test = run["metrics"]["test"]
        self.assertEqual(test["n"], 80 - len(train))
        low, high = test["accuracy_interval"]
        self.assertTrue(0 <= low <= test["accuracy"] <= high <= 1, test)
        self.assertIsNotNone(test["majority_vote_accuracy"], "accuracy always stands beside majority vote's")
        self.assertEqual(run["metrics"]["annotator_model"]["split"], "test")
        project = self.api.get(path).json
        self.assertEqual(project["active_model"], 1)
        self.assertEqual(self.api.get(path + "/models/1").json["run"], queued["id"])
        self.assertLessEqual(run["queued_at"], run["started_at"])
        self.assertLessEqual(run["started_at"], run["finished_at"])

    def test_without_a_body(self):
        path, name = self.loaded(settings={"training": {"seed": 9, "settings": {"epochs": 2, "hidden": [4]}}})
        answer = self.api.call("POST", path + "/training-runs", expect=202).json
        self.assertEqual((answer["seed"], answer["settings"]["epochs"], answer["settings"]["hidden"]), (9, 2, [4]))
        self.api.wait(name, answer["id"])
        other = self.api.post(path + "/training-runs", {"settings": {"hidden": [5]}}, expect=202).json
        self.assertEqual((other["settings"]["epochs"], other["settings"]["hidden"]), (2, [5]))
        self.api.wait(name, other["id"])

    def test_published_defaults(self):
        path, _ = self.loaded()
        self.slow(path)
        run = self.api.post(path + "/training-runs", {}, expect=202).json
        self.assertEqual(
            run["settings"],
            {
                "alpha": 1.0,
                "eta": 0.9,
                "hidden": [256, 128],
                "dropout": 0.5,
                "annotator_embedding": 128,
                "epochs": 50,
                "batch_size": 64,
                "learning_rate": 0.01,
                "annotator_learning_rate": 0.01,
                "weight_decay": 0.0,
                "annotator_weight_decay": 0.0,
                "standardize": True,
                "mix_only_annotators": False,
                "last_batch": "keep",
            },
        )
        for item in self.api.get(path + "/training-runs").json["items"]:
            self.api.post(path + "/training-runs/%d/cancel" % item["id"], expect=202)

    def test_equal_queued_runs_coalesce(self):
        path, _ = self.loaded()
        blocker = self.slow(path)
        first = self.api.post(path + "/training-runs", {"seed": 5}, expect=202).json
        same = self.api.post(
            path + "/training-runs", {"seed": 5, "ensemble": 1, "settings": {"alpha": 1.0}}, expect=200
        )
        self.assertEqual(same.json["id"], first["id"])
        self.assertEqual(same.header("Location"), path + "/training-runs/%d" % first["id"])
        other = self.api.post(path + "/training-runs", {"seed": 6}, expect=202).json
        self.assertNotEqual(other["id"], first["id"])
        self.assertEqual(
            [r["id"] for r in self.api.pages(path + "/training-runs", 2)], [other["id"], first["id"], blocker]
        )
        for run in (other["id"], first["id"], blocker):
            self.api.post(path + "/training-runs/%d/cancel" % run, expect=202)

    def test_cancel(self):
        path, name = self.loaded()
        running = self.slow(path)
        queued = self.api.post(path + "/training-runs", {"seed": 2}, expect=202).json["id"]
        self.api.post(path + "/training-runs/%d/cancel" % queued, expect=202)
        self.assertEqual(self.api.get(path + "/training-runs/%d" % queued).json["state"], "cancelled")
        self.api.post(path + "/training-runs/%d/cancel" % queued, expect=200)
        self.api.post(path + "/training-runs/%d/cancel" % running, expect=202)
        ended = self.api.wait(name, running, "cancelled")
        self.assertIsNone(ended["model"])
        self.api.post(path + "/training-runs/%d/cancel" % running, expect=200)
        done = self.api.train(name)["id"]
        self.problem(self.api.post(path + "/training-runs/%d/cancel" % done), 409, "conflict")
        self.assertEqual(self.api.post(path + "/training-runs/999/cancel").status, 404)

    def test_wait_and_etag(self):
        path, name = self.loaded()
        run = self.slow(path)
        url = path + "/training-runs/%d" % run
        first = self.api.get(url)
        self.assertEqual(self.api.get(url + "?wait=1", expect=200).json["state"], "running")
        changed = self.api.get(url + "?wait=55", headers={"If-None-Match": first.header("ETag")}, expect=200)
        self.assertNotEqual(changed.header("ETag"), first.header("ETag"))
        self.assertEqual(changed.json["state"], "running")
        self.assertGreaterEqual(changed.json["progress"]["epoch"], first.json["progress"]["epoch"])
        self.api.post(url + "/cancel", expect=202)
        ended = self.api.wait(name, run, "cancelled")
        last = self.api.get(url)
        self.api.get(url, headers={"If-None-Match": last.header("ETag")}, expect=304)
        self.assertEqual(last.json, ended)
        self.problem(self.api.get(url + "?wait=56"), 400, "invalid-query")
        self.problem(self.api.get(url + "?wait=-1"), 400, "invalid-query")
        self.problem(self.api.get(url + "?wait=x"), 400, "invalid-query")

    def test_wait_for_a_queued_run_without_change_is_304(self):
        path, _ = self.loaded()
        blocker = self.slow(path)
        queued = self.api.post(path + "/training-runs", {"seed": 2}, expect=202).json["id"]
        url = path + "/training-runs/%d" % queued
        tag = self.api.get(url).header("ETag")
        self.api.get(url + "?wait=1", headers={"If-None-Match": tag}, expect=304)
        self.api.post(path + "/training-runs/%d/cancel" % queued, expect=202)
        self.api.post(path + "/training-runs/%d/cancel" % blocker, expect=202)

    def test_progress_while_running(self):
        path, name = self.loaded()
        run = self.slow(path)
        url = path + "/training-runs/%d" % run
        progress = until(
            lambda: (lambda p: p if p and p["epoch"] >= 2 else None)(self.api.get(url).json["progress"]), "two epochs"
        )
        self.assertEqual(progress["epochs"], 10000)
        self.assertTrue(0 < progress["fraction"] < 1)
        self.assertGreater(progress["labels_per_second"], 0)
        self.assertGreater(progress["eta_seconds"], 0)
        self.assertIsNotNone(progress["loss"])
        self.api.post(url + "/cancel", expect=202)
        self.api.wait(name, run, "cancelled")

    def events(self, path, run):
        """The stream: (connection, response)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        connection.request("GET", path + "/training-runs/%d/events" % run, headers={"Accept": "text/event-stream"})
        return connection, connection.getresponse()

    @staticmethod
    def next_event(answer):
        """(event, id, data); skips comments. None at the end."""
        fields = {}
        while True:
            line = answer.readline()
            if line == b"":
                return None
            line = line.decode().rstrip("\r\n")
            if line == "":
                if "data" in fields:
                    return fields.get("event"), fields.get("id"), json.loads(fields["data"])
                fields = {}
            elif not line.startswith(":"):
                key, _, value = line.partition(":")
                fields[key] = value.lstrip(" ")

    def test_events(self):
        from harness import CONTRACT

        path, name = self.loaded()
        run = self.slow(path)
        connection, answer = self.events(path, run)
        self.assertEqual((answer.status, answer.getheader("Content-Type").split(";")[0]), (200, "text/event-stream"))
        self.assertEqual(answer.getheader("Cache-Control"), "no-store")
        CONTRACT.seen.add(("trainingRunEvents", 200))  # the stream does not pass through the checking client
        schema = CONTRACT.resolved["components"]["schemas"]["TrainingRun"]
        epochs = []
        while len(epochs) < 3:
            event, number, data = self.next_event(answer)
            CONTRACT.validate(schema, data, "event " + event)
            self.assertEqual(event, "progress")
            if data["state"] == "running":
                attempt, _, epoch = number.partition("-")
                self.assertGreaterEqual(int(attempt), 1)
                epochs.append(int(epoch))
        self.assertEqual(epochs, sorted(epochs))
        self.api.post(path + "/training-runs/%d/cancel" % run, expect=202)
        last = None
        while (event := self.next_event(answer)) is not None:
            last = event
        self.assertEqual((last[0], last[2]["state"]), ("done", "cancelled"))
        connection.close()
        self.api.get(path + "/training-runs/%d/events" % run, expect=204)
        self.assertEqual(self.api.get(path + "/training-runs/99/events").status, 404)

    def test_events_see_the_success(self):
        path, name = self.loaded()
        run = self.api.post(path + "/training-runs", {"settings": {**SMALL, "epochs": 400}}, expect=202).json["id"]
        connection, answer = self.events(path, run)
        if answer.status == 200:
            last = None
            while (event := self.next_event(answer)) is not None:
                last = event
            self.assertEqual((last[0], last[2]["state"], last[2]["model"]), ("done", "succeeded", 1))
        else:
            self.assertEqual(answer.status, 204)
        connection.close()

    def test_settings_out_of_range_are_422_with_pointer(self):
        path, _ = self.loaded()
        for body, pointer in [
            ({"settings": {"alpha": -0.1}}, "/settings/alpha"),
            ({"settings": {"alpha": 10.5}}, "/settings/alpha"),
            ({"settings": {"eta": 1.0}}, "/settings/eta"),
            ({"settings": {"eta": 0.3}}, "/settings/eta"),
            ({"settings": {"hidden": [0]}}, "/settings/hidden"),
            ({"settings": {"hidden": [1] * 9}}, "/settings/hidden"),
            ({"settings": {"hidden": [5000]}}, "/settings/hidden"),
            ({"settings": {"hidden": "8"}}, "/settings/hidden"),
            ({"settings": {"dropout": 0.96}}, "/settings/dropout"),
            ({"settings": {"dropout": -1e308}}, "/settings/dropout"),
            ({"settings": {"annotator_embedding": 0}}, "/settings/annotator_embedding"),
            ({"settings": {"annotator_embedding": 1025}}, "/settings/annotator_embedding"),
            ({"settings": {"epochs": 0}}, "/settings/epochs"),
            ({"settings": {"epochs": 10001}}, "/settings/epochs"),
            ({"settings": {"epochs": 2.5}}, "/settings/epochs"),
            ({"settings": {"batch_size": 1}}, "/settings/batch_size"),
            ({"settings": {"batch_size": 65537}}, "/settings/batch_size"),
            ({"settings": {"learning_rate": 0}}, "/settings/learning_rate"),
            ({"settings": {"learning_rate": 1.1}}, "/settings/learning_rate"),
            ({"settings": {"learning_rate": None}}, "/settings/learning_rate"),
            ({"settings": {"weight_decay": 2}}, "/settings/weight_decay"),
            ({"settings": {"standardize": 1}}, "/settings/standardize"),
            ({"settings": {"last_batch": "lose"}}, "/settings/last_batch"),
            ({"settings": {"epoch": 5}}, "/settings/epoch"),
            ({"settings": {"prior": "consensus"}}, "/settings/prior"),
            ({"seed": -1}, "/seed"),
            ({"seed": 2**53}, "/seed"),
            ({"seed": 1.5}, "/seed"),
            ({"seed": "1"}, "/seed"),
            ({"ensemble": 0}, "/ensemble"),
            ({"ensemble": 101}, "/ensemble"),
            ({"folds": 1}, "/folds"),
            ({"folds": 21}, "/folds"),
            ({"gold_use": "cheat"}, "/gold_use"),
            ({"activate": "maybe"}, "/activate"),
            ({"method": "magic"}, "/method"),
            ({"sede": 1}, "/sede"),
            ({"settings": []}, "/settings"),
        ]:
            answer = self.api.post(path + "/training-runs", body)
            self.assertEqual(answer.status, 422, (body, answer))
            found = [e.get("pointer", "") for e in answer.json.get("errors", [])]
            self.assertTrue(any(p == pointer or p.startswith(pointer + "/") for p in found), (body, answer))
        self.assertEqual(self.api.get(path + "/training-runs").json["items"], [])

    def test_nothing_to_train_is_409_naming_what_is_missing(self):
        empty = self.project(dim=2)
        self.problem(self.api.post(empty + "/training-runs", {}), 409, "nothing-to-train")
        self.problem(self.api.post(empty + "/training-runs", {"settings": {"alpha": 99}}), 422, "invalid-setting")
        no_labels = self.project(dim=2)
        self.api.ndjson(no_labels + "/instances", self.crowd.instances, expect=201)
        self.assertIn(
            "label", self.problem(self.api.post(no_labels + "/training-runs", {}), 409, "nothing-to-train")["detail"]
        )
        one_class = self.project(dim=2)
        self.api.ndjson(
            one_class + "/instances",
            [dict(i, split="train", labels=[{"annotator": "a", "class": "cat"}]) for i in self.crowd.instances[:10]],
            expect=201,
        )
        self.assertIn(
            "class", self.problem(self.api.post(one_class + "/training-runs", {}), 409, "nothing-to-train")["detail"]
        )
        only_test = self.project(dim=2)
        self.api.ndjson(
            only_test + "/instances",
            [
                dict(i, split="test", labels=[{"annotator": "a", "class": c}])
                for i, c in zip(self.crowd.instances[:2], ("cat", "dog"))
            ],
            expect=201,
        )
        self.problem(self.api.post(only_test + "/training-runs", {}), 409, "nothing-to-train")
        waiting = self.project(dim=2)
        self.api.ndjson(
            waiting + "/labels?create_instances=true",
            [{"instance": "i%d" % i, "annotator": "a", "class": ("cat", "dog")[i % 2]} for i in range(6)],
            expect=201,
        )
        self.assertIn(
            "features", self.problem(self.api.post(waiting + "/training-runs", {}), 409, "nothing-to-train")["detail"]
        )
        flat = self.project(dim=0)
        self.api.post(flat + "/labels", {"instance": "i", "annotator": "a", "class": "cat"}, expect=201)
        self.problem(self.api.post(flat + "/training-runs", {}), 409, "nothing-to-train")

    def test_ensemble(self):
        path, name = self.loaded()
        run = self.api.train(name, ensemble=3)
        one = self.api.train(name)
        sizes = [self.api.get(path + "/models/%d" % r["model"]).json["size_bytes"] for r in (run, one)]
        self.assertGreater(sizes[0], 2 * sizes[1])

    def test_activate_never(self):
        path, name = self.loaded()
        first = self.api.train(name)
        second = self.api.train(name, seed=2, activate="never")
        self.assertEqual((first["activated"], second["activated"]), (True, False))
        self.assertEqual(self.api.get(path).json["active_model"], first["model"])

    def test_failed_run_keeps_its_error_and_the_old_model(self):
        path, name = self.loaded()
        first = self.api.train(name)
        # Huge features in training and rates of 1 do not always diverge; what must hold is: never a broken model.
        self.api.ndjson(
            path + "/instances", [dict(i, features=[x * 3e5 for x in i["features"]]) for i in self.crowd.instances]
        )
        run = self.api.train(name, None, settings={"learning_rate": 1.0, "standardize": False, "epochs": 20})
        if run["state"] == "failed":
            self.assertTrue(run["error"])
            self.assertEqual(self.api.get(path).json["active_model"], first["model"])
        self.api.post(path + "/predict", {"instances": [{"features": [1, 1]}]}, expect=200)

    def test_auto_train(self):
        path = self.project(
            dim=2,
            settings={"auto_train": {"every_labels": 100}, "training": {"settings": {"epochs": 2, "hidden": [4]}}},
        )
        self.api.ndjson(path + "/instances", self.crowd.instances, expect=201)
        self.api.ndjson(path + "/labels", self.crowd.labels[:99], expect=201)
        self.assertEqual(self.api.get(path + "/training-runs").json["items"], [])
        self.api.ndjson(path + "/labels", self.crowd.labels[:99], expect=200)  # unchanged ones do not count
        self.api.ndjson(path + "/labels", self.crowd.labels[99:130], expect=201)
        runs = until(lambda: self.api.get(path + "/training-runs").json["items"], "a run by the rule")
        self.api.wait(path.rsplit("/", 1)[1], runs[-1]["id"])
        self.assertEqual(self.api.get(path).json["active_model"], 1)

    def test_unknown_run(self):
        path, _ = self.loaded()
        for number in ("1", "0", "-1", "x", "99999999999999999999"):
            self.assertEqual(self.api.get(path + "/training-runs/" + number).status, 404, number)

    def test_old_model_answers_while_training(self):
        path, name = self.loaded()
        self.api.train(name)
        before = self.api.post(path + "/predict", {"instances": [{"features": [0, 0]}]}, expect=200).json
        run = self.slow(path, seed=2)
        during = self.api.post(path + "/predict", {"instances": [{"features": [0, 0]}]}, expect=200).json
        self.assertEqual(before["predictions"], during["predictions"])
        self.api.get("/readyz", expect=200)
        self.api.post(path + "/training-runs/%d/cancel" % run, expect=202)


class MemoryLimit(Case):
    args = ("--run-memory", "1M", "--trainers", "1")

    def test_a_run_that_needs_too_much_says_how_much(self):
        path = self.project(dim=2)
        synth.Crowd(40).load(self.api, path)
        answer = self.api.post(path + "/training-runs", {"settings": {"hidden": [4096, 4096]}})
        if answer.status == 202:
            run = self.api.wait(path.rsplit("/", 1)[1], answer.json["id"], "failed")
            self.assertRegex(run["error"], r"\d")
        else:
            self.assertIn(answer.status, (413, 422))
            self.assertRegex(answer.json["detail"], r"\d")


class Restart(Case):
    args = ("--trainers", "1")

    def test_queued_and_running_runs_survive(self):
        path = self.project(dim=2)
        name = path.rsplit("/", 1)[1]
        synth.Crowd(60).load(self.api, path)
        self.api.train(name)
        slow = self.api.post(path + "/training-runs", {"settings": {"epochs": 10000, "hidden": [64]}}, expect=202).json[
            "id"
        ]
        until(lambda: self.api.get(path + "/training-runs/%d" % slow).json["state"] == "running")
        queued = self.api.post(path + "/training-runs", {"seed": 7, "settings": SMALL}, expect=202).json["id"]
        before = self.api.post(path + "/predict", {"instances": [{"features": [1, 0]}]}, expect=200).json
        self.api.close()
        took = self.server.stop()
        self.assertLess(took, 10)
        self.server.start()
        after = self.api.post(path + "/predict", {"instances": [{"features": [1, 0]}]}, expect=200).json
        self.assertEqual(after["predictions"], before["predictions"])
        state = self.api.get(path + "/training-runs/%d" % slow).json["state"]
        self.assertIn(state, ("queued", "running"))
        self.api.post(path + "/training-runs/%d/cancel" % slow, expect=202)
        self.api.wait(name, queued)

    def test_killed_while_running(self):
        path = self.project(dim=2)
        name = path.rsplit("/", 1)[1]
        synth.Crowd(60).load(self.api, path)
        run = self.api.post(path + "/training-runs", {"settings": {"epochs": 10000, "hidden": [64]}}, expect=202).json[
            "id"
        ]
        for attempt in (1, 2, 3):
            until(
                lambda: self.api.get(path + "/training-runs/%d" % run).json["state"] == "running",
                "attempt %d" % attempt,
            )
            self.api.close()
            self.server.kill()
            self.server.start()
        ended = self.api.wait(name, run, "failed")
        self.assertTrue(ended["error"])
        self.api.train(name)
