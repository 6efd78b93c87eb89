"""Rules that hold for every operation, tried on every operation of the document."""

import json
import re

import synth
from harness import CONTRACT, Case


class EveryOperation(Case):
    args = ("--body-bytes", "4K", "--auth", "none", "--trainers", "1")

    @classmethod
    def prepare(cls):
        cls.api.post("/v1/projects", {"name": "pets", "classes": synth.CLASSES, "feature_dim": 2}, expect=201)
        path = "/v1/projects/pets"
        crowd = synth.Crowd(20)
        crowd.load(cls.api, path)
        cls.api.post(path + "/instances", {"instances": [{"id": "pet-1", "features": [1, 2]}]}, expect=201)
        cls.api.post(path + "/labels", {"instance": "pet-1", "annotator": "ana", "class": "cat"}, expect=201)
        cls.api.train("pets")

    @staticmethod
    def operations(status=None):
        """(operation, method, target with examples filled in) of all that document this status."""
        for (method, template), operation in sorted(CONTRACT.operations.items()):
            if status is None or str(status) in operation["responses"]:
                target = template
                for parameter in operation["parameters"]:
                    if parameter["in"] == "path":
                        target = target.replace("{%s}" % parameter["name"], str(parameter.get("example", 1)))
                yield operation, method, target

    def body_of(self, operation):
        """A media type that the operation takes and a body of it; (None, None) when it takes none."""
        content = operation.get("requestBody", {}).get("content", {})
        for media_type, entry in content.items():
            examples = [e["value"] for e in entry.get("examples", {}).values()] + (
                [entry["example"]] if "example" in entry else []
            )
            example = examples[0] if examples else {"class": "cat"} if media_type == "application/json" else "x"
            return media_type, example if isinstance(example, str) else json.dumps(example)
        return None, None

    def test_unknown_query_parameter_is_400(self):
        for operation, method, target in self.operations():
            if not target.startswith("/v1/"):
                continue
            media_type, body = self.body_of(operation)
            answer = self.api.call(
                method, target + "?no_such_parameter=1", body, type=media_type, headers={"If-Match": "*"}
            )
            self.assertEqual(answer.status, 400, (method, target, answer))
            self.assertIn("no_such_parameter", answer.json["detail"], (method, target))

    def test_foreign_host_is_421(self):
        for operation, method, target in self.operations(421):
            media_type, body = self.body_of(operation)
            answer = self.api.call(method, target, body, type=media_type, headers={"Host": "evil.example"})
            self.problem(answer, 421, "misdirected-request")

    def test_foreign_media_type_is_415(self):
        for _, method, target in self.operations(415):
            answer = self.api.call(method, target, b"x", type="application/x-tar")
            self.problem(answer, 415, "unsupported-media-type")

    def test_strange_expectation_is_417(self):
        for operation, method, target in self.operations(417):
            media_type, body = self.body_of(operation)
            answer = self.api.call(method, target, body, type=media_type, headers={"Expect": "200-ok"})
            self.problem(answer, 417, "expectation-failed")

    def test_too_large_is_413(self):
        for operation, method, target in self.operations(413):
            if operation["operationId"] == "importModel":
                continue  # has a limit of its own: models are larger than bodies
            body = b'{"x":"' + b"y" * 10000 + b'"}'
            answer = self.api.call(method, target, body, type="application/json", headers={"If-Match": "*"})
            self.problem(answer, 413, "too-large")

    def test_nothing_acceptable_is_406(self):
        for operation, method, target in self.operations(406):
            media_type, body = self.body_of(operation)
            if operation["operationId"] == "putLabels":  # one label is answered in JSON, whatever Accept says
                body = '{"labels":[]}'
            answer = self.api.call(method, target, body, type=media_type, headers={"Accept": "image/png"})
            if operation["operationId"] == "trainingRunEvents" and answer.status == 204:
                continue  # the run has ended: there is nothing to accept
            self.problem(answer, 406, "not-acceptable")

    def test_nonsense_in_the_path_is_404(self):
        for _, method, target in self.operations(404):
            for nonsense in ("no-such-thing", "%F0%9F%98%80", "-1", "1e3", "0x1", "99999999999999999999"):
                changed = re.sub(r"/(pets)(?=/|$)", "/" + nonsense, target, count=1)
                answer = self.api.call(
                    method,
                    changed,
                    b"{}" if method in ("PUT", "PATCH") else None,
                    type="application/json" if method in ("PUT", "PATCH") else None,
                )
                self.assertIn(answer.status, (400, 404, 415, 422), (method, changed, answer))

    def test_strange_numbers_of_runs_and_models_are_404(self):
        for _, method, target in self.operations(404):
            if not re.search(r"/(training-runs|models|tokens)/1", target):
                continue
            for number in (
                "0",
                "-1",
                "+1",
                "1.0",
                "01x",
                "%31x",
                "9223372036854775807",
                "9223372036854775808",
                "1" * 30,
            ):
                changed = re.sub(r"/(training-runs|models|tokens)/1", r"/\1/" + number, target)
                self.assertEqual(self.api.call(method, changed).status, 404, (method, changed))

    def test_answers_are_not_for_caches_of_others(self):
        for operation, method, target in self.operations(200):
            if method == "GET" and target.startswith("/v1/projects/pets") and "events" not in target:
                answer = self.api.get(target)
                self.assertNotIn("public", answer.header("Cache-Control") or "", target)
                self.assertEqual(answer.header("X-Content-Type-Options"), "nosniff", target)
