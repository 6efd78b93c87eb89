"""Same data, settings, seed, build and kernel: the same model bytes, whatever the order of arrival, trainers or
gold.
"""

import random

import synth
from harness import Case, Client, Server


class Determinism(Case):
    weight = 2
    args = ("--trainers", "1")

    @classmethod
    def prepare(cls):
        cls.crowd = synth.Crowd(90, seed=11)
        cls.other = Server("--trainers", "2", "--threads", "1")
        cls.addClassCleanup(cls.other.remove)

    def model(self, api, path, **request):
        run = api.train(path.rsplit("/", 1)[1], **request)
        return api.get(path + "/models/%d/file" % run["model"], expect=200).body

    def make(self, api, name):
        api.post("/v1/projects", {"name": name, "classes": synth.CLASSES, "feature_dim": 2}, expect=201)
        return "/v1/projects/" + name

    def test_order_of_arrival_trainers_and_gold_do_not_matter(self):
        path = self.make(self.api, "straight")
        self.crowd.load(self.api, path)
        want = self.model(self.api, path)
        rng = random.Random(3)
        api = Client(self.other)
        instances, labels = list(self.crowd.instances), list(self.crowd.labels)
        rng.shuffle(instances)
        rng.shuffle(labels)
        shuffled = self.make(api, "another-name")
        half = len(labels) // 2
        api.ndjson(shuffled + "/labels?create_instances=true", labels[:half], expect=201)
        for row in instances:
            api.post(shuffled + "/instances", {"instances": [row]}, expect=(200, 201))
        for row in labels[half:]:
            api.post(shuffled + "/labels", row, expect=201)
        classes = [self.crowd.gold[i["id"]] for i in instances]
        rng.shuffle(classes)
        api.ndjson(
            shuffled + "/gold", [{"instance": i["id"], "class": c} for i, c in zip(instances, classes)], expect=201
        )
        self.assertEqual(self.model(api, shuffled), want)
        ensemble = self.model(self.api, path, ensemble=3)
        self.assertEqual(self.model(api, shuffled, ensemble=3), ensemble)
        self.assertNotEqual(ensemble, want)
        api.close()
        self.other.stop()

    def test_corrected_and_deleted_labels_leave_no_trace(self):
        plain = self.make(self.api, "plain")
        self.crowd.load(self.api, plain, gold=False)
        worn = self.make(self.api, "worn")
        self.api.ndjson(worn + "/instances", self.crowd.instances, expect=201)
        wrong = [dict(v, **{"class": "cat"}) for v in self.crowd.labels]
        self.api.ndjson(worn + "/labels", wrong, expect=201)
        self.api.ndjson(worn + "/labels", [{"instance": "i0001", "annotator": "gone", "class": "dog"}], expect=201)
        self.api.ndjson(worn + "/labels", self.crowd.labels, expect=200)
        self.api.delete(worn + "/annotators/gone", expect=204)
        self.api.post(worn + "/labels", {"instance": "i0002", "annotator": "skipper", "skipped": True}, expect=201)
        self.assertEqual(self.model(self.api, plain), self.model(self.api, worn))

    def test_the_data_hash_follows_the_data(self):
        path = self.make(self.api, "hash")
        self.crowd.load(self.api, path)
        hashes = []
        for step in range(2):
            run = self.api.train("hash")
            hashes.append(self.api.get(path + "/models/%d" % run["model"]).json["data_hash"])
            v = next(
                v
                for v in self.crowd.labels
                if v["instance"] in {i["id"] for i in self.crowd.instances if i["split"] == "train"}
            )
            self.api.post(
                path + "/labels", dict(v, **{"class": next(c for c in synth.CLASSES if c != v["class"])}), expect=200
            )
        self.assertNotEqual(hashes[0], hashes[1])
