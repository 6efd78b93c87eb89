"""What holds for the whole service: health, the document, methods and paths, headers, limits, formats, malformed
requests.
"""

import gzip
import json
import re
import socket

from contract import strict_json
from harness import CONTRACT, Case, Client, Server, raw, until


class Service(Case):
    def test_service_tells_version_capabilities_limits(self):
        body = self.api.get("/v1/", expect=200).json
        self.assertEqual(body["version"], self.server.version)
        methods = [m["name"] for m in self.api.get("/v1/methods", expect=200).json["items"]]
        self.assertEqual(body["capabilities"]["methods"], methods)
        self.assertEqual(body["limits"]["classes"], 1000)
        self.assertEqual(body["limits"]["body_bytes"], 8 << 20)

    def test_health(self):
        self.assertEqual(self.api.get("/livez", expect=200).json["status"], "ok")
        self.assertEqual(self.api.get("/readyz", expect=200).json["status"], "ok")

    def test_status_page_and_its_files(self):
        page = self.api.get("/", expect=200)
        self.assertIn(b"annotmixd", page.body)
        self.assertIn("default-src 'none'", page.header("Content-Security-Policy"))
        for target in re.findall(r'(?:src|href)="(/[a-z]+\.[a-z]+)"', page.body.decode()):
            self.api.get(target, expect=200)
        for target in ("/", "/app.js", "/style.css", "/icon.svg", "/openapi.yaml", "/openapi.json"):
            answer = self.api.get(target, expect=200)
            self.assertEqual(answer.header("X-Content-Type-Options"), "nosniff", target)
            self.api.get(target, headers={"If-None-Match": answer.header("ETag")}, expect=304)

    def test_methods_agree_with_the_settings_of_a_run(self):
        answer = self.api.get("/v1/methods", expect=200)
        methods = {m["name"]: m for m in answer.json["items"]}
        self.assertEqual(answer.json["items"][0]["name"], "annot_mix")
        self.assertEqual(len(methods), len(answer.json["items"]))
        documented = list(CONTRACT.resolved["components"]["schemas"]["TrainingSettings"]["properties"])
        read = set()
        for method in methods.values():
            names = [s["name"] for s in method["settings"]]
            self.assertEqual(names, [n for n in documented if n in names], method["name"])
            self.assertTrue({"hidden", "epochs", "batch_size", "learning_rate"} <= set(names), method["name"])
            read |= set(names)
        self.assertEqual(read, set(documented))
        alpha = next(s for s in methods["annot_mix"]["settings"] if s["name"] == "alpha")
        self.assertEqual((alpha["default"], alpha["minimum"], alpha["maximum"]), (1.0, 0, 10))
        self.assertEqual([m["name"] for m in methods.values() if m["needs_gold"]], ["ground_truth"])
        self.assertEqual(
            [f["name"] for f in methods["auto"]["fields"]], ["budget_seconds", "budget_fits", "select", "methods"]
        )
        alone = [m["name"] for m in answer.json["label_only"]]
        self.assertTrue({"majority_vote", "dawid_skene", "glad", "mace", "kos", "m_msr"} <= set(alone))
        if answer.header("ETag"):
            self.api.get("/v1/methods", headers={"If-None-Match": answer.header("ETag")}, expect=304)

    def test_document_is_served_as_it_lies_in_the_tree(self):
        import openapi_json

        with open(openapi_json.SOURCE, "rb") as f:
            self.assertEqual(self.api.get("/openapi.yaml", expect=200).body, f.read())
        self.assertEqual(self.api.get("/openapi.json", expect=200).json, openapi_json.document())

    def test_head_is_get_without_body(self):
        path = self.project()
        for target in ("/", "/livez", "/readyz", "/v1/", "/v1/projects", path, "/openapi.json", "/metrics"):
            get, head = self.api.get(target, expect=200), self.api.head(target, expect=200)
            self.assertEqual(head.header("Content-Type"), get.header("Content-Type"), target)
            if target not in ("/metrics", "/readyz", "/livez"):
                self.assertEqual(head.header("ETag"), get.header("ETag"), target)
        self.api.head("/v1/projects/nobody", expect=404)

    def test_unknown_paths_are_404(self):
        for target in (
            "/nothing",
            "/v1",
            "/v1/nothing",
            "/v1/projects/a/b/c/d/e",
            "/v2/projects",
            "//",
            "/v1//projects",
            "/v1/projects/",
            "/app.js/x",
            "/..",
            "/v1/../etc/passwd",
            "/%2e%2e/x",
        ):
            answer = self.api.get(target)
            self.assertIn(answer.status, (400, 404), target)

    def test_known_paths_with_another_method_are_405_with_allow(self):
        for template in CONTRACT.resolved["paths"]:
            target = re.sub(r"\{[^}]*\}", "1", template)
            for method in ("GET", "PUT", "POST", "PATCH", "DELETE"):
                if (method, template) not in CONTRACT.operations:
                    answer = self.api.call(method, target, b"" if method in ("POST", "PUT", "PATCH") else None)
                    self.problem(answer, 405, "method-not-allowed")

    def test_unknown_method_is_501_or_405(self):
        answer = raw(self.server.port, b"BREW /v1/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        self.assertRegex(answer, rb"^HTTP/1\.1 (405|501) ")

    def test_request_id_is_made_or_kept(self):
        first, second = self.api.get("/livez"), self.api.get("/livez")
        self.assertNotEqual(first.header("X-Request-Id"), second.header("X-Request-Id"))
        kept = self.api.get("/livez", headers={"X-Request-Id": "front-7.a_B"})
        self.assertEqual(kept.header("X-Request-Id"), "front-7.a_B")
        for bad in ("no spaces please", "x" * 65, 'quote"'):
            self.assertNotEqual(self.api.get("/livez", headers={"X-Request-Id": bad}).header("X-Request-Id"), bad)

    def test_log_has_the_request_id_and_the_template_but_no_names(self):
        path = self.project()
        self.api.post(
            path + "/labels",
            {"instance": "secret-instance", "annotator": "secret-annotator", "class": "cat"},
            headers={"X-Request-Id": "find-me-in-the-log"},
            expect=201,
        )
        self.api.get(path + "/instances/secret-instance", expect=200)
        lines = [json.loads(line) for line in self.server.log().splitlines()]
        self.assertTrue(any("find-me-in-the-log" in json.dumps(line) for line in lines))
        self.assertNotIn("secret-instance", self.server.log())
        self.assertNotIn("secret-annotator", self.server.log())
        self.assertTrue(any("/v1/projects/{p}/labels" in json.dumps(line) for line in lines))

    def test_unknown_query_parameter_is_400(self):
        path = self.project()
        for target in (
            "/v1/projects?limitt=5",
            path + "?x=1",
            path + "/labels?anotator=a",
            "/v1/?a=b",
            path + "/consensus?confidence=1",
            path + "/training-runs?state=queued",
        ):
            self.problem(self.api.get(target), 400, "invalid-query")

    def test_limit_and_cursor_are_checked(self):
        path = self.project()
        for query in (
            "limit=0",
            "limit=1001",
            "limit=x",
            "limit=-1",
            "limit=1e2",
            "limit=",
            "cursor=abc",
            "cursor=%01",
            "cursor=AAAAAAAAAAAAAAAAAAAAAA",
        ):
            self.problem(self.api.get(path + "/labels?" + query), 400, "invalid-query")

    def test_gzip_out(self):
        for i in range(30):
            self.project(title="a title that repeats itself " * 4)
        plain = self.api.get("/v1/projects?limit=20", expect=200)
        self.assertIsNone(plain.header("Content-Encoding"))
        packed = self.api.get("/v1/projects?limit=20", headers={"Accept-Encoding": "gzip"}, expect=200)
        self.assertEqual(packed.header("Content-Encoding"), "gzip")
        self.assertEqual(packed.json, plain.json)
        refused = self.api.get("/v1/projects?limit=20", headers={"Accept-Encoding": "gzip;q=0"}, expect=200)
        self.assertIsNone(refused.header("Content-Encoding"))

    def test_not_acceptable(self):
        path = self.project()
        self.problem(self.api.get(path + "/reliability", headers={"Accept": "image/png"}), 406, "not-acceptable")
        self.api.get(path + "/reliability", headers={"Accept": "image/png, */*;q=0.1"}, expect=200)
        self.api.get(path + "/reliability?format=csv", headers={"Accept": "image/png"}, expect=200)

    def test_media_type_is_415(self):
        path = self.project()
        for type in ("text/plain", "application/xml", "application/x-www-form-urlencoded", ""):
            self.problem(self.api.call("POST", path + "/labels", b"x", type=type), 415, "unsupported-media-type")
        self.problem(self.api.call("POST", path + "/labels", b"{}", headers={}), 415, "unsupported-media-type")
        self.problem(
            self.api.call("POST", path + "/labels", b"{}", type="application/json", headers={"Content-Encoding": "br"}),
            415,
            "unsupported-media-type",
        )
        self.api.call(
            "POST",
            path + "/labels",
            b'{"instance":"a","annotator":"b","class":"cat"}',
            type="Application/JSON; charset=UTF-8",
            expect=201,
        )

    def test_expectation_is_417(self):
        path = self.project()
        self.problem(
            self.api.call("POST", path + "/labels", b"{}", type="application/json", headers={"Expect": "a-miracle"}),
            417,
            "expectation-failed",
        )

    def test_metrics(self):
        self.api.get("/v1/nothing", expect=404)
        answer = self.api.get("/metrics", expect=200)
        self.assertTrue(answer.header("Content-Type").startswith("text/plain; version=0.0.4"))
        types, seen = {}, set()
        sample = re.compile(
            r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*\})? '
            r"([+-]?(?:[0-9.]+(?:[eE][+-]?[0-9]+)?|Inf|NaN))$"
        )
        for line in answer.body.decode().splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                self.assertNotIn(name, types, "TYPE stands twice")
                types[name] = kind
            elif not line.startswith("#"):
                match = sample.match(line)
                self.assertIsNotNone(match, line)
                self.assertNotIn(line.rsplit(" ", 1)[0], seen, "a sample stands twice")
                seen.add(line.rsplit(" ", 1)[0])
                base = re.sub(r"_(bucket|sum|count)$", "", match.group(1))
                self.assertTrue(match.group(1) in types or base in types, line)
        text = answer.body.decode()
        for word in ("requests", "duration", "commit", "queue", "wal", "labels", "runs", "build_info"):
            self.assertIn(word, text, word)
        self.assertRegex(text, r'route="/v1/projects')
        self.assertNotRegex(text, r'"p\d+"')


class Limits(Case):
    args = (
        "--body-bytes",
        "4K",
        "--line-bytes",
        "2K",
        "--metadata-bytes",
        "1K",
        "--atomic-lines",
        "10",
        "--atomic-bytes",
        "8K",
    )

    def test_body_over_the_limit_is_413_without_expect(self):
        path = self.project()
        for size in (5000, 300_000, 3_000_000):
            body = b'{"labels":[' + b" " * size + b"]}"
            self.problem(self.api.call("POST", path + "/labels", body, type="application/json"), 413, "too-large")
        self.api.get(path, expect=200)

    def test_body_over_the_limit_is_413_with_expect_before_it_is_sent(self):
        path = self.project()
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as s:
            s.sendall(
                (
                    "POST %s/labels HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    "Content-Length: 100000000\r\nExpect: 100-continue\r\n\r\n" % path
                ).encode()
            )
            answer = s.recv(65536)
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer[:200])

    def test_expect_100_continue_goes_on(self):
        path = self.project()
        body = b'{"instance":"a","annotator":"b","class":"cat"}'
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as s:
            s.sendall(
                (
                    "POST %s/labels HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    "Content-Length: %d\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n" % (path, len(body))
                ).encode()
            )
            first = s.recv(65536)
            self.assertTrue(first.startswith(b"HTTP/1.1 100 "), first)
            s.sendall(body)
            rest = first
            while piece := s.recv(65536):
                rest += piece
        self.assertIn(b"HTTP/1.1 201 ", rest)

    def test_chunked_body_over_the_limit_is_413(self):
        path = self.project()
        pieces = iter([b'{"labels":['] + [b" " * 1000] * 50 + [b"]}"])
        answer = self.api.call("POST", path + "/labels", pieces, type="application/json")
        self.problem(answer, 413, "too-large")

    def test_gzip_bomb_is_413(self):
        path = self.project()
        bomb = gzip.compress(b'{"labels":[' + b" " * (50 << 20) + b"]}")
        answer = self.api.call(
            "POST", path + "/labels", bomb, type="application/json", headers={"Content-Encoding": "gzip"}
        )
        self.problem(answer, 413, "too-large")

    def test_line_over_the_limit_is_that_lines_error_or_413(self):
        path = self.project()
        good = '{"instance":"a","annotator":"b","class":"cat"}\n'
        long = '{"instance":"%s","annotator":"b","class":"cat"}\n' % ("x" * 5000)
        answer = self.api.ndjson(path + "/labels", good + long + good.replace('"a"', '"c"'))
        self.assertIn(answer.status, (200, 413), answer)
        body = answer.json
        self.assertIn(2, [e["line"] for e in body["errors"]], body)

    def test_metadata_over_the_limit(self):
        path = self.project()
        answer = self.api.post(path + "/instances", {"instances": [{"id": "a", "metadata": "x" * 1100}]})
        self.problem(answer, 422, "invalid-body", pointer="/metadata", line=1)

    def test_atomic_over_its_limit_is_413_and_stores_nothing(self):
        path = self.project()
        rows = [{"instance": "i%d" % i, "annotator": "a", "class": "cat"} for i in range(11)]
        self.problem(self.api.ndjson(path + "/labels?atomic=true", rows), 413, "too-large")
        self.assertEqual(self.api.get(path).json["counts"]["labels"], 0)
        self.api.ndjson(path + "/labels?atomic=true", rows[:10], expect=201)


class BodyMemory(Case):
    args = ("--body-memory", "1536K")

    def test_many_large_bodies_at_once_are_503(self):
        path = self.project()
        body = b'{"labels":[' + b" " * 700_000 + b']}'
        head = (
            "POST %s/labels HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        ) % (path, len(body))
        slow, client = [], Client(self.server)

        def full():
            # One of several is held until its end comes; a later one may be refused itself.
            if len(slow) < 8:
                slow.append(socket.create_connection(("127.0.0.1", self.server.port), timeout=30))
                slow[-1].sendall(head.encode() + body[:-2])
            answer = client.call("POST", path + "/labels", body, type="application/json", check=False)
            return answer if answer.status == 503 else None

        self.problem(until(full, "the memory to be full"), 503, "queue-full")
        self.api.post(path + "/labels", {"instance": "a", "annotator": "b", "class": "cat"}, expect=201)
        for connection in slow:
            connection.close()
        until(lambda: client.call("POST", path + "/labels", body, type="application/json", check=False).status != 503)
        client.close()


class Malformed(Case):
    def ask(self, head, body=b""):
        return raw(self.server.port, head.replace("\n", "\r\n").encode("latin-1") + b"\r\n" + body)

    def refused(self, answer, *statuses):
        self.assertRegex(answer, rb"^HTTP/1\.[01] (%s) " % b"|".join(str(s).encode() for s in statuses), answer[:300])
        self.assertEqual(answer.count(b"HTTP/1.1 "), 1, "one request, one answer: %r" % answer[:600])

    def test_smuggling(self):
        smuggled = b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        self.refused(
            self.ask(
                "POST /v1/projects HTTP/1.1\nHost: localhost\nContent-Length: 5\nTransfer-Encoding: chunked\n", smuggled
            ),
            400,
        )
        self.refused(
            self.ask(
                "POST /v1/projects HTTP/1.1\nHost: localhost\nContent-Length: 0\nContent-Length: 44\n",
                b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
            ),
            400,
        )
        self.refused(
            self.ask(
                "POST /v1/projects HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n"
                "Transfer-Encoding: identity\n",
                smuggled,
            ),
            400,
            501,
        )
        self.refused(
            self.ask("POST /v1/projects HTTP/1.0\nHost: localhost\nTransfer-Encoding: chunked\n", smuggled), 400
        )

    def test_transfer_encodings(self):
        for coding in ("xchunked", "gzip, chunked", "identity"):
            self.refused(
                self.ask("POST /v1/projects HTTP/1.1\nHost: localhost\nTransfer-Encoding: %s\n" % coding), 400, 501
            )

    def test_hosts(self):
        self.refused(self.ask("GET /livez HTTP/1.1\nHost: localhost\nHost: localhost\n"), 400)
        answer = self.ask("GET /livez HTTP/1.1\nAccept: */*\n")  # libmicrohttpd answers this by itself
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)

    def test_control_bytes_and_names(self):
        self.refused(self.ask("GET /livez HTTP/1.1\nHost: localhost\nX-A: a\x01b\n"), 400)
        self.refused(self.ask("GET /livez HTTP/1.1\nHost: localhost\nX(A): a\n"), 400)

    def test_targets(self):
        self.refused(self.ask("GET /v1/projects/a%00b HTTP/1.1\nHost: localhost\nConnection: close\n"), 400)
        self.refused(self.ask("GET /v1/projects/a%zz HTTP/1.1\nHost: localhost\nConnection: close\n"), 400)
        self.refused(self.ask("GET /%s HTTP/1.1\nHost: localhost\n" % ("x" * 300_000)), 400, 414, 431)
        self.refused(self.ask("GET /livez HTTP/1.1\nHost: localhost\nX-Long: %s\n" % ("x" * 300_000)), 400, 431, 413)

    def test_encoded_slash_stays_in_its_segment(self):
        path = self.project()
        self.api.post(path + "/labels", {"instance": "a/b", "annotator": "x/y", "class": "cat"}, expect=201)
        self.assertEqual(self.api.get(path + "/instances/a%2Fb", expect=200).json["id"], "a/b")
        self.assertEqual(self.api.get(path + "/instances?id=a%2Fb", expect=200).json["items"][0]["id"], "a/b")
        self.api.get(path + "/annotators/x%2Fy", expect=200)
        self.api.get(path + "/instances/a/b", expect=404)

    def test_keep_alive_goes_on_after_errors(self):
        connection = Client(self.server)
        for i in range(5):
            connection.get("/v1/nothing", expect=404)
            first = connection.connection
            connection.get("/livez", expect=200)
            self.assertIs(connection.connection, first)
        connection.close()


class Hosts(Case):
    """While tokens are off, only known Host headers are answered (DNS rebinding)."""

    args = ("--auth", "none", "--allow-host", "annot.example")

    def test_hosts(self):
        for host in (
            "localhost",
            "localhost:%d" % self.server.port,
            "127.0.0.1",
            "127.0.0.1:%d" % self.server.port,
            "annot.example",
            "annot.example:8080",
            "ANNOT.example",
        ):
            self.api.get("/v1/projects", headers={"Host": host}, expect=200)
        for host in (
            "evil.example",
            "evil.example:%d" % self.server.port,
            "127.0.0.1.evil.example",
            "annot.example.evil",
        ):
            self.problem(self.api.get("/v1/projects", headers={"Host": host}), 421, "misdirected-request")


class HealthListener(Case):
    args = ("--health-listen", "127.0.0.1:0", "--auth", "token")
    env = {}

    def test_port_is_told_and_serves_only_health(self):
        match = re.search(r"health[^\n]*?127\.0\.0\.1:(\d+)", self.server.log())
        self.assertIsNotNone(match, self.server.log())
        health = Client(self.server)
        other = type("Port", (), {"port": int(match.group(1))})()
        health.server = other
        for target in ("/livez", "/readyz", "/metrics"):
            self.assertEqual(health.get(target, check=False).status, 200, target)
        self.assertEqual(health.get("/v1/projects", check=False).status, 404)
        health.close()


class FullQueue(Case):
    args = ("--run-queue", "2", "--trainers", "1")

    def test_full_queue_is_503_with_retry_after(self):
        import synth

        crowd = synth.Crowd(40)
        path = self.project(dim=2)
        crowd.load(self.api, path)
        slow = {"settings": {"epochs": 10000, "hidden": [64]}}
        first = self.api.post(path + "/training-runs", {**slow, "seed": 1}, expect=202).json
        from harness import until

        until(
            lambda: self.api.get(path + "/training-runs/%d" % first["id"]).json["state"] == "running", "the first run"
        )
        for seed in (2, 3):
            self.api.post(path + "/training-runs", {**slow, "seed": seed}, expect=202)
        full = self.api.post(path + "/training-runs", {**slow, "seed": 4})
        self.problem(full, 503, "queue-full")
        self.assertRegex(full.header("Retry-After"), r"^\d+$")
        for run in self.api.get(path + "/training-runs").json["items"]:
            self.api.post(path + "/training-runs/%d/cancel" % run["id"], expect=202)


class LongPolls(Case):
    args = ("--long-polls", "0", "--trainers", "1")

    def test_too_many_long_polls_are_503(self):
        import synth

        path = self.project(dim=2)
        synth.Crowd(40).load(self.api, path)
        run = self.api.post(path + "/training-runs", {"settings": {"epochs": 10000, "hidden": [64]}}, expect=202).json
        answer = self.api.get(path + "/training-runs/%d?wait=30" % run["id"])
        self.problem(answer, 503, "queue-full")
        self.assertTrue(answer.header("Retry-After"))
        self.api.post(path + "/training-runs/%d/cancel" % run["id"], expect=202)
