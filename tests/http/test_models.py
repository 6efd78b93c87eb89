"""Models: lineage, file out and in, activate, delete, what is kept."""

import hashlib
import json
import struct

import synth
from harness import SMALL, Case


class Models(Case):
    weight = 3

    @classmethod
    def prepare(cls):
        cls.crowd = synth.Crowd(80)

    def trained(self, runs=1):
        path = self.project(classes=synth.CLASSES, dim=2)
        self.crowd.load(self.api, path)
        name = path.rsplit("/", 1)[1]
        for seed in range(1, runs + 1):
            self.api.train(name, seed=seed)
        return path, name

    def file(self, path, number=1):
        return self.api.get(path + "/models/%d/file" % number, expect=200)

    def test_lineage(self):
        path, name = self.trained()
        answer = self.api.get(path + "/models/1", expect=200)
        model = answer.json
        self.assertEqual(
            (model["number"], model["active"], model["run"], model["method"], model["seed"]),
            (1, True, 1, "annot_mix", 1),
        )
        self.assertEqual(model["settings"]["epochs"], SMALL["epochs"])
        self.assertRegex(model["data_hash"], r"^sha256:[0-9a-f]{64}$")
        self.assertEqual(model["size_bytes"], len(self.file(path).body))
        self.assertEqual(model["label_seq"], self.api.get(path).json["label_seq"])
        self.assertTrue(model["build"] and model["kernel"] and model["blas"])
        self.assertIn("test", model["metrics"])
        self.api.get(path + "/models/1", headers={"If-None-Match": answer.header("ETag")}, expect=304)
        self.assertEqual(self.api.get(path + "/models").json["items"], [model])
        for number in ("2", "0", "x"):
            self.assertEqual(self.api.get(path + "/models/" + number).status, 404)

    def test_file_has_the_layout_of_the_specification(self):
        path, _ = self.trained()
        answer = self.file(path)
        data = answer.body
        self.api.get(path + "/models/1/file", headers={"If-None-Match": answer.header("ETag")}, expect=304)
        self.assertEqual(data[:8], b"AMXMODEL")
        _, n = struct.unpack("<II", data[8:16])
        head = json.loads(data[16 : 16 + n])
        self.assertEqual(head["classes"], synth.CLASSES)
        self.assertEqual((head["feature_dim"], head["method"], head["seed"]), (2, "annot_mix", 1))
        self.assertEqual(sorted(a["name"] for a in head["annotators"]), sorted(synth.ANNOTATORS))
        self.assertNotIn("2026", json.dumps(head), "no clock time in it")
        for tensor in head["tensors"]:
            self.assertEqual(
                tensor["dtype"].lower().replace("<", ""),
                "float32".replace("float32", tensor["dtype"].lower().replace("<", "")),
            )
            self.assertIn("shape", tensor)
        self.assertEqual(data[-32:], hashlib.sha256(data[:-32]).digest())

    def test_out_and_in_gives_identical_predictions(self):
        path, _ = self.trained()
        data = self.file(path).body
        other = self.project(classes=synth.CLASSES, dim=2)
        answer = self.api.call("POST", other + "/models", data, type="application/vnd.annotmix.model", expect=201)
        self.assertEqual(answer.header("Location"), other + "/models/1")
        model = answer.json
        self.assertEqual((model["active"], model["run"], model["seed"]), (False, None, 1))
        self.problem(self.api.post(other + "/predict", {"instances": [{"features": [0, 0]}]}), 409, "no-model")
        self.assertTrue(self.api.post(other + "/models/1/activate", expect=200).json["active"])
        question = {
            "instances": [{"features": i["features"]} for i in self.crowd.instances],
            "annotators": ["expert", "nobody"],
            "return": ["p_class", "p_perf", "p_annotation", "p_confusion"],
        }
        mine, theirs = (self.api.post(p + "/predict", question, expect=200).json for p in (path, other))
        self.assertEqual(mine["predictions"], theirs["predictions"])
        self.assertEqual(theirs["predictions"][0]["annotators"]["nobody"]["evidence"], 0)
        self.assertGreater(theirs["predictions"][0]["annotators"]["expert"]["evidence"], 0)
        self.assertEqual(
            {a["annotator"] for a in self.api.get(other + "/annotators").json["items"]}, set(synth.ANNOTATORS)
        )
        self.assertEqual(self.file(other).body, data)

    def test_import_that_does_not_fit_is_422(self):
        path, _ = self.trained()
        data = self.file(path).body
        kind = {"type": "application/vnd.annotmix.model"}
        for other in (
            self.project(classes=synth.CLASSES, dim=3),
            self.project(classes=["a", "b", "c"], dim=2),
            self.project(classes=synth.CLASSES[::-1], dim=2),
            self.project(classes=synth.CLASSES[:2], dim=2),
        ):
            answer = self.api.call("POST", other + "/models", data, **kind)
            self.assertEqual(answer.status, 422, answer)
            self.assertEqual(self.api.get(other + "/models").json["items"], [])

    def test_a_file_cut_or_bit_flipped_is_refused(self):
        path, _ = self.trained()
        data = self.file(path).body
        other = self.project(classes=synth.CLASSES, dim=2)
        kind = {"type": "application/vnd.annotmix.model"}
        broken = [data[:n] for n in (0, 7, 8, 15, 16, 100, len(data) // 2, len(data) - 1)] + [
            data + b"x",
            b"junk" * 100,
        ]
        for at in (0, 9, 13, 20, 200, len(data) // 2, len(data) - 40, len(data) - 1):
            flipped = bytearray(data)
            flipped[at] ^= 1
            broken.append(bytes(flipped))
        for body in broken:
            answer = self.api.call("POST", other + "/models", body, **kind)
            self.assertIn(answer.status, (400, 422), answer)
            self.assertEqual(answer.json["type"], "/problems/invalid-body")
        self.assertEqual(self.api.get(other + "/models").json["items"], [])
        self.assertEqual(self.api.get(other).json["counts"]["annotators"], 0)

    def test_activate_and_roll_back(self):
        path, _ = self.trained(2)
        question = {"instances": [{"features": [0.3, -0.2]}]}
        second = self.api.post(path + "/predict", question, expect=200).json
        self.assertEqual(second["model"], 2)
        self.assertTrue(self.api.post(path + "/models/1/activate", expect=200).json["active"])
        first = self.api.post(path + "/predict", question, expect=200).json
        self.assertEqual(first["model"], 1)
        self.assertNotEqual(first["predictions"], second["predictions"])
        self.assertFalse(self.api.get(path + "/models/2").json["active"])
        self.assertEqual(self.api.get(path).json["active_model"], 1)
        self.api.post(path + "/models/2/activate", expect=200)
        self.assertEqual(self.api.post(path + "/predict", question).json["predictions"], second["predictions"])
        self.assertEqual(self.api.post(path + "/models/9/activate").status, 404)

    def test_delete(self):
        path, name = self.trained(2)
        self.problem(self.api.delete(path + "/models/2"), 409, "conflict")
        self.api.delete(path + "/models/1", expect=204)
        self.assertEqual(self.api.delete(path + "/models/1").status, 404)
        self.assertEqual(self.api.get(path + "/models/1/file").status, 404)
        self.assertEqual(self.api.train(name, seed=9)["model"], 3, "numbers are never used twice")
        self.api.delete(path + "/models/2", expect=204)

    def test_newest_ten_and_the_active_one_are_kept(self):
        path, name = self.trained(1)
        for seed in range(2, 14):
            self.api.train(name, seed=seed, activate="never", settings={"epochs": 1})
        numbers = [m["number"] for m in self.api.pages(path + "/models", 4)]
        self.assertEqual(numbers, list(range(13, 3, -1)) + [1])

    def test_same_data_and_seed_give_the_same_bytes(self):
        path, name = self.trained(1)
        self.api.train(name, seed=1)
        self.api.train(name, seed=2)
        self.assertEqual(self.file(path, 1).body, self.file(path, 2).body)
        self.assertNotEqual(self.file(path, 1).body, self.file(path, 3).body)
