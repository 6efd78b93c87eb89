"""Names made to hurt: in HTML, in CSV, in the log, as a path; and what is erased is gone from the files."""

import csv
import io
import json
import os
import re

from harness import ROOT, Case, command, quote, until

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
