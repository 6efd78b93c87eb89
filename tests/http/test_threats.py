"""Text made to hurt: in HTML, in CSV, in SQL, in the log, as a path; a flood of wrong tokens; what is erased is gone from the
files."""

import collections
import contextlib
import csv
import http.client
import io
import json
import os
import re
import secrets
import sqlite3
import threading

from harness import CONTRACT, ROOT, Case, Client, command, quote, until

PAYLOADS = (
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "javascript:alert(1)", "'-alert(1)-'",
    "</title><script>alert(1)</script>", "{{7*7}}", "${7*7}", "<iframe srcdoc='<script>alert(1)</script>'>", "&lt;script&gt;",
    "=1+1", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "=HYPERLINK(\"http://x\")", "..", "a/../../etc/passwd", "..\\..\\x", "%2e%2e%2f",
    "%252e%252e", "/etc/passwd", "C:\\x", "'; DROP TABLE labels; --", "\" OR 1=1 --", "\u202etxt.exe", "\u2028", "%s%n%x", "a\u00a0b",
)  # fmt: skip


class Names(Case):
    def test_hostile_names_are_only_text(self):
        path = self.project(classes=["<b>a</b>", "=b"], dim=2)
        names = [n for n in PAYLOADS if n not in (".", "..")]
        rows = [{"id": n, "features": [0.5, 0.5], "labels": [{"annotator": n, "class": "=b"}]} for n in names]
        answer = self.api.post(path + "/instances", {"instances": rows}, expect=(200, 201))
        self.assertTrue(answer.header("Content-Type").startswith("application/json"))
        self.assertEqual(self.api.get(path, expect=200).json["counts"]["labels"], len(names))
        listed = {a["annotator"] for a in self.api.pages(path + "/annotators", 10)}
        self.assertEqual(listed, set(names), "byte for byte")
        for name in names:
            answer = self.api.get(path + "/instances?id=" + quote(name), expect=200)
            self.assertTrue(answer.header("Content-Type").startswith("application/json"), name)
            self.assertEqual(answer.header("X-Content-Type-Options"), "nosniff", name)
        for target in ("/labels", "/annotators"):
            answer = self.api.get(path + target, headers={"Accept": "text/csv"}, check=False)
            if answer.status != 200:  # no CSV of this list
                continue
            cells = [c for row in csv.reader(io.StringIO(answer.body.decode(), newline="")) for c in row]
            self.assertFalse([c for c in cells if c[:1] in ("=", "+", "-", "@", "\t", "\r") and len(c) > 1 and not re.fullmatch(r"-?[\d.e-]+", c)], target)

    def test_paths_lead_nowhere(self):
        for target in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/%252e%252e/etc/passwd", "/..%5c..%5cetc", "/app.js/../../x",
                       "/v1/projects/..%2f..%2fetc%2fpasswd", "/v1/projects/%2e%2e/models/1/file", "//etc/passwd", "/app.js%00.png"):  # fmt: skip
            answer = self.api.get(target, check=False)
            self.assertIn(answer.status, (400, 404), target)
            self.assertNotIn(b"root:", answer.body)

    def test_log_takes_no_lines_from_clients(self):
        path = self.project(dim=2)
        self.api.get(path + "/instances?id=" + quote("x\r\n{\"level\":\"error\"}\x1b[2J"), check=False)
        self.api.get("/v1/projects/" + quote("a\nFORGED line\x1b[31m"), check=False)
        for header in ("X-Request-Id", "User-Agent"):
            self.api.get("/v1/projects", headers={header: "FORGED \x1b[31m {}"}, check=False)
        for line in self.server.log().splitlines():
            if line.startswith("annotmixd:"):
                continue
            self.assertIsInstance(json.loads(line), dict, line)
            self.assertNotIn("\x1b", line)
            self.assertNotIn("FORGED", line)

    def test_dashboard_builds_no_html(self):
        for name in os.listdir(os.path.join(ROOT, "src", "dashboard")):
            with open(os.path.join(ROOT, "src", "dashboard", name), encoding="utf-8") as f:
                text = f.read()
            self.assertIsNone(re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), name)
            self.assertIsNone(re.search(r"""\son[a-z]+=["']|<script>|https?://(?!www\.w3\.org)""", text) if name.endswith("html") else None, name)
        policy = self.api.get("/", expect=200).header("Content-Security-Policy")
        for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            self.assertIn(part, policy)
        self.assertNotIn("unsafe", policy)


class Erased(Case):
    """What is deleted leaves the database and its log, not only the answers."""

    def test_deleted_project_leaves_no_bytes(self):
        path = self.project(dim=0, classes=["zebraclass1", "zebraclass2"])
        marks = ["zebrainstance", "zebraannotator", "zebraclass", "zebrametadata"]
        self.api.post(path + "/instances", {"instances": [
            {"id": "zebrainstance%d" % i, "metadata": {"k": "zebrametadata%d" % i}, "labels": [{"annotator": "zebraannotator", "class": "zebraclass1"}]}
            for i in range(300)]}, expect=(200, 201))  # fmt: skip
        self.api.delete(path, headers={"If-Match": "*"}, expect=204)

        def remains():
            found = []
            for suffix in ("", "-wal"):
                if os.path.exists(self.server.db + suffix):
                    with open(self.server.db + suffix, "rb") as f:
                        data = f.read()
                    found += [m + suffix for m in marks if m.encode() in data]
            return found

        # Purging is done in idle time, and the log is emptied when nothing came for a second.
        until(lambda: not remains(), "the bytes of the deleted project to go")
        command("backup", self.server.db + ".copy", "--db", self.server.db, check=0)
        with open(self.server.db + ".copy", "rb") as f:
            data = f.read()
        self.assertFalse([m for m in marks if m.encode() in data])


HOSTILE = (
    "'", "''", "' OR '1'='1", "\" OR \"1\"=\"1", "1 OR 1=1", "') OR ('1'='1", "'; DROP TABLE labels; --", "1; DELETE FROM instances",
    "' UNION SELECT name, sql FROM sqlite_master --", "x' AND randomblob(100000000) --", "1' AND (SELECT 1)=1 /*", "%' ESCAPE '%", "_", "%",
    "[x]*?", "\\'; --", "'||(SELECT token FROM tokens)||'", "x'\tOR\t1=1#", "' COLLATE NOCASE --", "?1", ":name", "@x", "$x",
)  # fmt: skip


class Injection(Case):
    """Text made for SQL, in every text parameter and every string of every body: it is only text, or refused."""

    args = ("--auth", "none", "--trainers", "1")

    @classmethod
    def prepare(cls):
        for name in ("pets", "vault"):
            path = "/v1/projects/" + name
            cls.api.post("/v1/projects", {"name": name, "classes": ["cat", "dog"], "feature_dim": 2}, expect=201)
            cls.api.post(path + "/instances", {"instances": [
                {"id": "i%d" % i, "features": [i % 3, i % 2], "labels": [{"annotator": "a%d" % j, "class": ("cat", "dog")[(i + j) % 2]} for j in range(3)]}
                for i in range(12)]}, expect=(200, 201))  # fmt: skip
            cls.api.post(path + "/gold", {"gold": [{"instance": "i1", "class": "cat"}]}, expect=(200, 201))
            cls.api.train(name)

    def rows(self, only_vault=False):
        """Schema and content of the database; only_vault: of what belongs to the project that no request names."""
        with contextlib.closing(sqlite3.connect("file:%s?mode=ro" % self.server.db, uri=True)) as db:
            self.assertEqual(db.execute("PRAGMA quick_check").fetchall(), [("ok",)])
            schema = db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
            found = {}
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
                columns = [c[1] for c in db.execute("PRAGMA table_info(%s)" % table)]
                key = "project_id" if "project_id" in columns else "id" if table == "projects" else None
                if not only_vault:
                    found[table] = sorted(map(repr, db.execute("SELECT * FROM %s" % table)))
                elif key is not None:
                    found[table] = sorted(map(repr, db.execute(
                        "SELECT * FROM %s WHERE %s = (SELECT id FROM projects WHERE name = 'vault')" % (table, key))))  # fmt: skip
        return schema, found

    @staticmethod
    def targets(operation, template, text):
        """The path with text in one parameter after the other; the rest as for something that is there."""
        there = {"project": "pets", "instance": "i1", "annotator": "a1", "run": "1", "model": "1", "token": "1"}
        for changed in operation["parameters"]:
            if changed["in"] not in ("path", "query"):
                continue
            values = {**there, **({changed["name"]: quote(text)} if changed["in"] == "path" else {})}
            query = "?%s=%s" % (changed["name"], quote(text)) if changed["in"] == "query" else ""
            yield re.sub(r"{(\w+)}", lambda m, v=values: v[m.group(1)], template) + query

    @staticmethod
    def bodies(value, text):
        """The value with text in place of one of its strings after the other, and as one of its names."""
        if isinstance(value, str):
            yield text
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
            for changed in Injection.bodies(inner, text):
                copy = value.copy()
                copy[key] = changed
                yield copy
        if isinstance(value, dict):
            yield {**value, text: 1}

    def send(self, method, target, text, **more):
        answer = self.api.call(method, target, headers={"If-Match": "*"}, **more)
        self.assertLess(answer.status, 500, (method, target, text, answer))
        return answer

    def test_text_is_only_text(self):
        self.parameters()  # first: afterwards there are things of these names
        self.post_bodies()

    def parameters(self):
        before = self.rows()
        for (method, template), operation in sorted(CONTRACT.operations.items()):
            if method not in ("GET", "DELETE"):
                continue
            for text in HOSTILE:
                for target in self.targets(operation, template, text):
                    answer = self.send(method, target, text)
                    if answer.status == 200 and answer.json.keys() >= {"items"} and re.search(r"\?(id|instance|annotator|ref)=", target):
                        self.assertEqual(answer.json["items"], [], "a name that nobody has found something: " + target)
        self.assertEqual(self.rows(), before)

    def post_bodies(self):
        before, examples = self.rows(only_vault=True), {
            "/v1/projects": {"name": "q", "title": "t", "description": "d", "classes": ["x", "y"], "feature_dim": 0},
            "/instances": {"instances": [{"id": "n1", "features": [1, 2], "split": "train", "metadata": {"k": "v"},
                                          "labels": [{"annotator": "n", "class": "cat", "ref": "r"}]}]},
            "/labels": {"labels": [{"instance": "i2", "annotator": "n", "class": "dog", "ref": "r", "at": "2026-01-01T00:00:00Z"}]},
            "/gold": {"gold": [{"instance": "i2", "class": "dog"}]},
            "/training-runs": {"method": "annot_mix", "activate": "always", "settings": {"epochs": 1, "optimizer": "radam"}},
            "/face-offs": {"methods": ["majority_vote"]},
            "/predict": {"instances": [{"id": "i1"}], "annotators": ["a1"], "return": ["p_class"]},
            "/v1/tokens": {"name": "n", "scopes": ["read"], "project": "pets", "annotator": "a1"},
        }  # fmt: skip
        for end, example in examples.items():
            path = end if end.startswith("/v1") else "/v1/projects/pets" + end
            for text in HOSTILE:
                for body in self.bodies(example, text):
                    self.send("POST", path, text, json_body=body)
        for text in HOSTILE:
            row = ",".join('"%s"' % text.replace('"', '""') for _ in range(3))
            self.send("POST", "/v1/projects/pets/labels", text, body="instance,annotator,class\n%s\n" % row, type="text/csv")
            self.send("PATCH", "/v1/projects/pets", text, json_body={"title": text, "description": text})
            self.send("PUT", "/v1/projects/pets/gold/i3", text, json_body={"class": text})
        self.assertEqual(self.rows(only_vault=True), before)


class Flood(Case):
    """Ten thousand wrong tokens: each is refused, none costs memory, and who has a right one is served all the time."""

    args = ("--auth", "token")
    N = 10_000

    def memory_kib(self):
        with open("/proc/%d/status" % self.server.process.pid, encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

    def flood(self, n, statuses):
        """n requests over one connection, each with a token of its own; their answers are counted as they come."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)) as connection:
            for _ in range(n):
                wrong = "amx_" + secrets.token_urlsafe(32)
                connection.request("GET", "/v1/projects", headers={"Authorization": "Bearer " + wrong})
                answer = connection.getresponse()
                answer.read()
                statuses[answer.status] += 1

    def test_ten_thousand_wrong_tokens(self):
        done = command("token", "create", "--db", self.server.db, "--name", "t", "--scope", "read", check=0)
        good = Client(self.server, done.out.strip().splitlines()[-1].strip())
        self.addCleanup(good.close)
        counts = [collections.Counter() for _ in range(4)]
        self.flood(100, collections.Counter())
        before = self.memory_kib()
        threads = [threading.Thread(target=self.flood, args=(self.N // 4, c)) for c in counts]
        for thread in threads:
            thread.start()
        served = 0
        while any(thread.is_alive() for thread in threads):
            good.get("/v1/projects", expect=200)
            served += 1
        for thread in threads:
            thread.join()
        self.assertEqual(sum(counts, collections.Counter()), {401: self.N})
        self.assertGreater(served, 10)
        with open("/proc/%d/maps" % self.server.process.pid, encoding="ascii") as f:
            sanitized = re.search(r"/lib[at]san\.", f.read())
        if not sanitized:  # a sanitizer keeps what is freed
            self.assertLess(self.memory_kib() - before, 16 * 1024)
        good.get("/v1/projects", expect=200)
