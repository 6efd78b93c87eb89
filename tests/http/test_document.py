"""The document itself: it agrees with its JSON form, with the routes of the program, with its own examples; and
the examples and the README's first minute are replayed against a server.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import openapi_json
import synth
from contract import ROOT, SUCCESS, route_tables
from harness import BINARY, CONTRACT, PATIENCE, Case, clean_environment, command

HTTP_METHODS = ("get", "put", "post", "patch", "delete")


def readme():
    path = os.path.join(ROOT, "README.md")
    if not os.path.exists(path):
        raise unittest.SkipTest("README.md is not there")
    with open(path, encoding="utf-8") as f:
        return f.read()


class Document(unittest.TestCase):
    def test_json_form_is_up_to_date(self):
        self.assertTrue(openapi_json.up_to_date(), "run python3 tests/api/openapi_json.py")
        self.assertEqual(openapi_json.text(), openapi_json.text())

    def test_routes_agree_both_ways(self):
        blank = lambda pattern: re.sub(r"\{[^}]*\}", "{}", pattern)
        program = {(m, blank(p)): scopes for m, p, scopes, _ in route_tables()}
        document = {(m, blank(t)): set(o["x-scope"]) for (m, t), o in CONTRACT.operations.items()}
        self.assertEqual(sorted(set(program) - set(document)), [], "routes that the document does not know")
        self.assertEqual(sorted(set(document) - set(program)), [], "operations that the program does not have")
        for route, scopes in program.items():
            wanted = {"public"} if not document[route] else document[route]
            if scopes == {"any"}:
                scopes = {"submit", "read", "gold", "write", "train", "admin"}
            self.assertEqual(set(scopes), wanted, route)

    def test_every_operation_is_whole(self):
        names = set()
        for (method, template), operation in CONTRACT.operations.items():
            what = (method, template)
            self.assertNotIn(operation["operationId"], names)
            names.add(operation["operationId"])
            self.assertTrue(operation.get("summary"), what)
            self.assertTrue(operation.get("tags"), what)
            declared = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            self.assertEqual(declared, set(re.findall(r"\{([^}]*)\}", template)), what)
            for parameter in operation["parameters"]:
                self.assertTrue(parameter.get("description"), (what, parameter["name"]))
            self.assertTrue(any(int(s) in SUCCESS for s in operation["responses"]), what)
            if operation["x-scope"]:
                for status in ("401", "421"):
                    self.assertIn(status, operation["responses"], what)
                self.assertNotEqual(operation.get("security"), [], what)
            else:
                self.assertEqual(operation.get("security"), [], what)
            if "requestBody" in operation:
                for status in ("400", "413", "415", "422"):
                    self.assertIn(status, operation["responses"], what)

    def test_schemas_are_schemas(self):
        import jsonschema

        for name, schema in CONTRACT.resolved["components"]["schemas"].items():
            jsonschema.Draft202012Validator.check_schema(schema)
            self.closed(schema, name, name.startswith("New") or name.endswith(("Body", "Request", "Patch")))

    def closed(self, schema, name, must):
        if must and isinstance(schema, dict) and schema.get("type") == "object" and "properties" in schema:
            self.assertIs(schema.get("additionalProperties"), False, name + ": request schemas are closed")

    def test_no_description_was_cut_by_a_comma(self):
        """In YAML's flow style a comma ends a plain text; what follows would be a key with spaces in it."""

        def walk(node, path):
            if isinstance(node, dict):
                for key, value in node.items():
                    self.assertFalse(" " in key and value is None, path + "/" + key)
                    walk(value, path + "/" + key)
            elif isinstance(node, list):
                for i, value in enumerate(node):
                    walk(value, "%s/%d" % (path, i))

        walk(CONTRACT.document, "")

    def test_every_component_is_used(self):
        text = openapi_json.text()
        for kind in ("schemas", "responses", "parameters", "headers"):
            for name in CONTRACT.document["components"][kind]:
                self.assertIn('"#/components/%s/%s"' % (kind, name), text, name)

    def test_examples_fit_their_schemas(self):
        for (method, template), operation in CONTRACT.operations.items():
            contents = [operation.get("requestBody", {}).get("content", {})]
            contents += [r.get("content", {}) for r in operation["responses"].values()]
            for content in contents:
                for media_type, entry in content.items():
                    examples = [e["value"] for e in entry.get("examples", {}).values()]
                    examples += [entry["example"]] if "example" in entry else []
                    for example in examples:
                        close = content is not contents[0]
                        CONTRACT.validate(entry["schema"], example, "%s %s %s" % (method, template, media_type), close)

    def test_problem_types_are_those_of_the_program(self):
        source = "".join(p.read_text(encoding="utf-8") for room in ("endpoints", "http") for p in Path(ROOT, "src", room).rglob("*.c"))
        types = CONTRACT.resolved["components"]["schemas"]["ProblemType"]["enum"]
        for slug in types:
            self.assertIn('"%s"' % slug.rsplit("/", 1)[1], source, slug)
        for slug in re.findall(r"\] = \{\d{3}, \"([a-z-]+)\"", source):
            self.assertIn("/problems/" + slug, types)


class Examples(Case):
    """Every request example of the document, in the order in which a user would send them."""

    ORDER = (
        "createProject",
        "putProject",
        "patchProject",
        "putInstances",
        "putLabels",
        "putGoldBulk",
        "putGold",
        "createTrainingRun",
        "predict",
        "createFaceOff",
        "createToken",
    )  # the last one: from then on tokens are required

    def test_replay(self):
        by_name = {o["operationId"]: (m, t, o) for (m, t), o in CONTRACT.operations.items()}
        with_examples = {
            name
            for name, (_, _, o) in by_name.items()
            if any("example" in e or "examples" in e for e in o.get("requestBody", {}).get("content", {}).values())
        }
        self.assertEqual(with_examples, set(self.ORDER), "an operation with an example is missing in the order")
        for name in self.ORDER:
            method, template, operation = by_name[name]
            target = template
            for parameter in operation["parameters"]:
                if parameter["in"] == "path":
                    target = target.replace("{%s}" % parameter["name"], str(parameter["example"]))
            if name == "createToken":
                body = self.api.get("/v1/projects/pets/consensus/pet-1", expect=200).json
                self.assertEqual(body["basis"], "out_of_fold")  # the last run had folds
            if name == "predict":
                run = self.api.get("/v1/projects/pets/training-runs", expect=200).json["items"][0]
                self.api.wait("pets", run["id"])
            for media_type, entry in operation["requestBody"]["content"].items():
                examples = [e["value"] for e in entry.get("examples", {}).values()] + (
                    [entry["example"]] if "example" in entry else []
                )
                for example in examples:
                    body = example if isinstance(example, str) else json.dumps(example)
                    headers = {"If-Match": "*"} if method == "PATCH" else {}
                    answer = self.api.call(method, target, body, type=media_type, headers=headers)
                    self.assertIn(answer.status, (200, 201, 202), (name, media_type, answer))
                    if "rejected" in (answer.json if answer.body.startswith(b"{") else {}):
                        self.assertEqual(answer.json["rejected"], 0, (name, answer))


class Readme(Case):
    args = ("--trainers", "1")

    def test_first_minute(self):
        blocks = re.findall(r"<!-- replay:start -->(.*?)<!-- replay:end -->", readme(), re.S)
        self.assertTrue(blocks, "no block between the replay marks")
        script = "\n".join(code for block in blocks for code in re.findall(r"```sh\n(.*?)```", block, re.S))
        script = "\n".join(line for line in script.splitlines() if not re.match(r"\s*(build/)?annotmixd serve", line))
        if not shutil.which("curl") or ("jq " in script and not shutil.which("jq")):
            self.skipTest("curl or jq is not installed")
        folder = tempfile.mkdtemp(prefix="annotmix-http-")
        self.addCleanup(shutil.rmtree, folder, True)
        url = "http://127.0.0.1:%d" % self.server.port
        script = "set -eu\n" + script.replace("http://127.0.0.1:8080", url).replace("build/annotmixd", BINARY)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env=clean_environment(URL=url, ANNOTMIX_DB=self.server.db),
            capture_output=True,
            timeout=2 * PATIENCE,
        )
        self.assertEqual(done.returncode, 0, done.stdout.decode()[-2000:] + done.stderr.decode()[-2000:])
        self.assertNotIn(b"/problems/", done.stdout)
        self.assertIn(b'"succeeded"', done.stdout)
        self.assertIn(b"instance,class,confidence", done.stdout)

    def test_settings_table_is_that_of_help(self):
        text = command("serve", "--help", check=0).out
        told = {}
        for flag, rest in re.findall(r"^  (--[a-z-]+) \S+\s+(.*?)(?=^  --|\Z)", text, re.S | re.M):
            default = re.search(r"default (.*?)(?:;|$)", rest, re.M).group(1)
            told[flag] = (re.search(r"environment (\w+)", rest).group(1), default)
        self.assertGreater(len(told), 20, text)
        table = {
            flag: (env, default)
            for flag, env, default in re.findall(
                r"^\| `(--[a-z-]+)[^`]*` \| `(\w+)` \| [^|]* \| `([^`]*)` \|", readme(), re.M
            )
        }
        self.assertEqual(table, told)


class EveryStatus(Case):
    """Success statuses that no other test has a reason to meet."""

    def test_conditional_gets(self):
        path = self.project(dim=2)
        synth.Crowd(40).load(self.api, path)
        self.api.train(path.rsplit("/", 1)[1])
        for target in (
            "",
            "/instances/i0001",
            "/annotators/expert",
            "/training-runs/1",
            "/models/1",
            "/models/1/file",
            "/reliability/expert",
            "/consensus/i0001",
        ):
            tag = self.api.get(path + target, expect=200).header("ETag")
            self.assertTrue(tag, target)
            self.api.get(path + target, headers={"If-None-Match": tag}, expect=304)
            self.api.head(path + target, headers={"If-None-Match": tag}, expect=304)

    def test_result_lines_of_every_bulk(self):
        path = self.project()
        lines = {"Accept": "application/x-ndjson"}
        self.api.post(path + "/instances", {"instances": [{"id": "a"}, {"id": "b"}]}, headers=lines, expect=201)
        self.api.post(
            path + "/labels",
            {"labels": [{"instance": "a", "annotator": "x", "class": "cat"}]},
            headers=lines,
            expect=201,
        )
        answer = self.api.csv(path + "/gold?format=ndjson", "instance,class\na,cat\nb,cow\n", expect=200)
        self.assertEqual([line["status"] for line in answer.lines], ["created", "rejected"])
