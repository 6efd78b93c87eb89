"""The API document as a judge: every answer of the whole suite is held against api/openapi.yaml.

check() raises AssertionError when an answer is not what the document says: a status that is not documented, a
media type, a body that does not fit its schema (response schemas are closed here, so an undocumented field is
an error too), a missing header. It also refuses a 2xx to a request that the document forbids (an undocumented
query parameter, a body against its schema): then program or document is wrong. What was seen is collected in
`seen`; run.py fails when a documented operation or success status never was.
"""

import copy
import json
import os
import re
import sys
import urllib.parse
from pathlib import Path

import jsonschema

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "api"))
import openapi_json  # noqa: E402  (the loader that refuses double keys)

METHODS = ("get", "put", "post", "patch", "delete")
# What may come before an operation is reached; said in the head of the document.
ANYWHERE = {400, 405, 408, 414, 417, 431, 501, 505}
SUCCESS = {200, 201, 202, 204, 304}


def strict_json(data):
    """Parses JSON and refuses NaN, Infinity and double keys."""

    def constant(word):
        raise AssertionError("the answer holds %s, which is not JSON" % word)

    def pairs(items):
        keys = [k for k, _ in items]
        if len(keys) != len(set(keys)):
            raise AssertionError("a key stands twice in the answer: %s" % keys)
        return dict(items)

    return json.loads(data, parse_constant=constant, object_pairs_hook=pairs)


class Contract:
    def __init__(self):
        self.document = openapi_json.document()
        self.resolved = self._resolve(self.document)
        self.operations = {}  # (method, template) -> operation with the parameters of its path
        self.templates = []
        for template, item in self.resolved["paths"].items():
            shared = item.get("parameters", [])
            self.templates.append((template, [s for s in template.split("/")]))
            for method in METHODS:
                if method in item:
                    operation = dict(item[method])
                    operation["parameters"] = shared + operation.get("parameters", [])
                    self.operations[(method.upper(), template)] = operation
        self.seen = set()  # (operationId, status)
        self._validators = {}

    def _resolve(self, node):
        """The document with every $ref replaced by what it names (there is no recursive schema in it)."""
        if isinstance(node, dict):
            if "$ref" in node:
                target = self.document
                for part in node["$ref"].lstrip("#/").split("/"):
                    target = target[part.replace("~1", "/").replace("~0", "~")]
                return self._resolve(target)
            return {k: self._resolve(v) for k, v in node.items()}
        if isinstance(node, list):
            return [self._resolve(v) for v in node]
        return node

    # ---- schemas ----

    @staticmethod
    def _close(schema):
        if isinstance(schema, list):
            for part in schema:
                Contract._close(part)
        elif isinstance(schema, dict):
            if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
                schema["additionalProperties"] = False
            for part in schema.values():
                Contract._close(part)

    def validator(self, schema, close):
        key = (id(schema), close)
        if key not in self._validators:
            own = copy.deepcopy(schema)
            if close:
                self._close(own)
            self._validators[key] = (jsonschema.Draft202012Validator(own), schema)  # keeps the id alive
        return self._validators[key][0]

    def validate(self, schema, value, what, close=True):
        error = jsonschema.exceptions.best_match(self.validator(schema, close).iter_errors(value))
        if error is not None:
            where = "/" + "/".join(str(p) for p in error.absolute_path)
            raise AssertionError("%s: %s at %s\nbody: %.600s" % (what, error.message[:400], where, json.dumps(value)))

    # ---- finding the operation ----

    def template_of(self, path):
        """The template of a raw path (no query), or None."""
        segments = path.split("/")
        best = None
        for template, parts in self.templates:
            if len(parts) != len(segments):
                continue
            literal = 0
            for part, segment in zip(parts, segments):
                if part.startswith("{"):
                    if segment == "":
                        break
                elif part == segment:
                    literal += 1
                else:
                    break
            else:
                if best is None or literal > best[0]:
                    best = (literal, template)
        return best[1] if best else None

    def methods_of(self, template):
        methods = {m for (m, t) in self.operations if t == template}
        return methods | {"HEAD"} if "GET" in methods else methods

    # ---- the check ----

    def check(self, method, target, request_headers, request_body, response):
        path, _, query = target.partition("?")
        what = "%s %s -> %d" % (method, target[:120], response.status)
        assert response.header("X-Request-Id"), what + ": no X-Request-Id"
        if response.status in (204, 304) or method == "HEAD":
            assert response.body == b"", what + ": a body where none belongs"
        template = self.template_of(path)
        if template is None:
            assert response.status >= 400, what + ": not in the document, yet it succeeds"
            self._problem(what, method, response)
            return
        wanted = "GET" if method == "HEAD" else method
        operation = self.operations.get((wanted, template))
        if operation is None:
            self._problem(what, method, response)
            if response.status == 405:
                allow = {m.strip() for m in (response.header("Allow") or "").split(",")}
                assert allow - {"OPTIONS"} == self.methods_of(template), "%s: Allow is %s, the document has %s" % (
                    what,
                    sorted(allow),
                    sorted(self.methods_of(template)),
                )
            else:
                assert response.status in (400, 401, 403, 404, 417, 421, 501, 503), what + ": expected 405"
            return
        documented = operation["responses"].get(str(response.status))
        if documented is None:
            assert response.status in ANYWHERE, what + ": this status is not documented for " + operation["operationId"]
            self._problem(what, method, response)
            return
        self.seen.add((operation["operationId"], response.status))
        for name, header in documented.get("headers", {}).items():
            value = response.header(name)
            assert value is not None or not header.get("required"), "%s: header %s is missing" % (what, name)
            if value is not None:
                self.validate(header["schema"], value, "%s: header %s" % (what, name))
        if response.status < 400:
            self._request(what, operation, query, request_headers, request_body)
        content = documented.get("content")
        if response.status >= 400:
            self._problem(what, method, response, content)
        elif content is not None:
            self._content(what, method, content, response)

    def _content(self, what, method, content, response):
        media_type = (response.header("Content-Type") or "").split(";")[0].strip().lower()
        assert media_type in content, "%s: media type %r is not documented" % (what, media_type)
        if method == "HEAD":
            return
        entry = content[media_type]
        if entry.get("x-lines"):
            assert response.body == b"" or response.body.endswith(b"\n"), what + ": the last line has no newline"
            for n, line in enumerate(response.body.splitlines(), 1):
                if n <= 200 or n % 50 == 0:  # of a long stream a part will do
                    self.validate(entry["schema"], strict_json(line), "%s line %d" % (what, n))
        elif media_type.endswith("json"):
            self.validate(entry["schema"], strict_json(response.body), what)

    def _problem(self, what, method, response, content=None):
        if response.status < 400:
            raise AssertionError(what + ": not documented")
        if method == "HEAD":
            return
        media_type = (response.header("Content-Type") or "").split(";")[0]
        assert media_type == "application/problem+json", "%s: media type %r" % (what, media_type)
        body = strict_json(response.body)
        name = "BulkProblem" if content and "accepted" in body else "Problem"
        self.validate(self._schema(name), body, what)
        assert body["status"] == response.status, what + ": status of the body is %s" % body["status"]
        assert body["instance"] == "urn:request:" + response.header("X-Request-Id"), what + ": " + body["instance"]

    def _schema(self, name):
        return self.resolved["components"]["schemas"][name]

    def _request(self, what, operation, query, headers, body):
        known = {p["name"] for p in operation["parameters"] if p["in"] == "query"} | {"format"}
        for name, _ in urllib.parse.parse_qsl(query, keep_blank_values=True):
            assert name in known, "%s: query parameter %r is not documented, yet accepted" % (what, name)
        wanted = operation.get("requestBody")
        if not body or wanted is None or "gzip" in headers.get("Content-Encoding", ""):
            return
        media_type = headers.get("Content-Type", "").split(";")[0].strip().lower()
        assert media_type in wanted["content"], "%s: request type %r is not documented, yet accepted" % (
            what,
            media_type,
        )
        if media_type.endswith("json") and media_type != "application/x-ndjson":
            value = json.loads(body)
            bulk = next((m for m in ("instances", "labels", "gold") if isinstance(value.get(m), list)), None)
            if bulk and not operation["operationId"].startswith("predict"):
                return  # rows are judged one by one: some of them may be wrong
            self.validate(
                wanted["content"][media_type]["schema"], value, what + ": the request was accepted, but", close=False
            )

    # ---- coverage ----

    def unseen(self):
        """Documented operations and success statuses that no test has seen."""
        lines = []
        for (method, template), operation in sorted(self.operations.items(), key=lambda i: (i[0][1], i[0][0])):
            name = operation["operationId"]
            if not any(op == name for op, _ in self.seen):
                lines.append("never called: %s %s" % (method, template))
                continue
            for status in operation["responses"]:
                if int(status) in SUCCESS and (name, int(status)) not in self.seen:
                    lines.append("never seen: %s %s -> %s" % (method, template, status))
        return lines


def route_tables(root=ROOT):
    """(method, pattern, set of scopes) of every route in src/endpoints, read from the tables in the source."""
    row = re.compile(r'\.method\s*=\s*"([A-Z]+)"\s*,\s*\.pattern\s*=\s*((?:"[^"]*"\s*)+),(.*?)\}', re.S)
    routes = []
    for path in sorted(Path(root, "src", "endpoints").rglob("*.c")):
        name, source = path.name, path.read_text(encoding="utf-8")
        for table in re.findall(r"struct http_route \w+_routes\[\] = \{(.*?)\n\};", source, re.S):
            found = row.findall(table)
            assert len(found) == table.count(".method"), name + " has a route that this cannot read"
            for method, pattern, rest in found:
                scopes = {s.lower() for s in re.findall(r"SCOPE_([A-Z]+)", rest)}
                routes.append((method, "".join(re.findall(r'"([^"]*)"', pattern)), frozenset(scopes), name))
    return routes
