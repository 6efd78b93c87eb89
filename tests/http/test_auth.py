"""Tokens: scopes, reach, annotator binding, gold left out, revocation at once, secrets."""

import json
import os
import re
import subprocess

import synth
from harness import CONTRACT, Case, Client, Server, command, quote, until

SCOPES = ("submit", "read", "gold", "write", "train", "admin")


class Tokens(Case):
    weight = 2
    args = ("--auth", "token", "--trainers", "1")

    @classmethod
    def setUpClass(cls):
        cls.secrets = []
        super().setUpClass()

    @classmethod
    def prepare(cls):
        cls.api.token = cls.make("root", "admin")
        cls.admin = cls.api

    @classmethod
    def make(cls, name, scope, *more):
        """A token made on the command line, beside the running server."""
        done = command("token", "create", "--db", cls.server.db, "--name", name, "--scope", scope, *more, check=0)
        token = done.out.strip().splitlines()[-1].strip()
        assert re.fullmatch(r"amx_[A-Za-z0-9_-]{43}", token), done.out
        cls.secrets.append(token)
        return token

    def client(self, scope, *more):
        client = Client(self.server, self.make("t", scope, *more))
        self.addCleanup(client.close)
        return client

    @classmethod
    def tearDownClass(cls):
        log = cls.server.log()
        for secret in cls.secrets:
            assert secret not in log, "a token stands in the log"
        super().tearDownClass()
        for suffix in ("", "-wal"):
            if os.path.exists(cls.server.db + suffix):
                with open(cls.server.db + suffix, "rb") as f:
                    data = f.read()
                assert not any(s.encode() in data for s in cls.secrets), "a token stands in the database"

    def test_without_a_token_401(self):
        nobody = Client(self.server)
        for target in ("/v1/", "/v1/projects", "/v1/methods", "/v1/tokens", "/metrics", "/v1/projects/x"):
            self.problem(nobody.get(target), 401, "unauthorized")
        for target in ("/livez", "/readyz", "/", "/openapi.yaml"):
            nobody.get(target, expect=200)
        for header in (
            "Bearer",
            "Bearer ",
            "Bearer amx_" + "A" * 43,
            "Basic abc",
            "amx_x",
            "Bearer x y",
            "bearer " + "z" * 4000,
        ):
            self.problem(nobody.get("/v1/projects", headers={"Authorization": header}), 401, "unauthorized")
        self.problem(nobody.get("/v1/projects?token=" + self.secrets[0]), 401, "unauthorized")
        nobody.get("/v1/projects", headers={"Authorization": "bearer " + self.secrets[0]}, expect=200)
        nobody.close()

    def test_matrix_of_scopes(self):
        """Every operation with every single scope: allowed exactly where x-scope says so."""
        path = self.project(dim=2)
        self.api.post(path + "/instances", {"instances": [{"id": "a"}]}, expect=201)
        clients = {scope: self.client(scope) for scope in SCOPES}
        clients[None] = Client(self.server)
        for (method, template), operation in sorted(CONTRACT.operations.items()):
            target = template.replace("{project}", path.rsplit("/", 1)[1]).replace("{instance}", "nobody")
            target = re.sub(r"\{[^}]*\}", "999", target)
            allowed = set(operation["x-scope"])
            for scope, client in clients.items():
                if operation["operationId"] == "listLabels" and scope == "submit":
                    continue  # needs a token bound to an annotator besides: test_annotator_binding
                body = b"{" if operation.get("requestBody") else None
                type = (
                    "application/vnd.annotmix.model"
                    if operation["operationId"] == "importModel"
                    else "application/json"
                )
                if method == "DELETE" and template == "/v1/projects/{project}":
                    target = "/v1/projects/nobody"
                answer = client.call(method, target, body, type=type if body else None)
                what = (method, template, scope, answer)
                if not allowed:
                    self.assertNotIn(answer.status, (401, 403), what)
                elif scope is None:
                    self.assertEqual(answer.status, 401, what)
                elif scope in allowed or scope == "admin":
                    self.assertNotIn(answer.status, (401, 403), what)
                else:
                    self.assertEqual(answer.status, 403, what)
        clients[None].close()

    def test_a_foreign_project_is_404_everywhere(self):
        mine, other = self.project(dim=2), self.project(dim=2)
        bound = self.client("submit,read,gold,write,train", "--project", mine.rsplit("/", 1)[1])
        bound.get(mine, expect=200)
        self.assertEqual([p["name"] for p in bound.get("/v1/projects").json["items"]], [mine.rsplit("/", 1)[1]])
        foreign, missing = other.rsplit("/", 1)[1], "no-such-project"
        for (method, template), operation in sorted(CONTRACT.operations.items()):
            if "{project}" not in template:
                continue
            answers = []
            for project in (foreign, missing):
                target = re.sub(r"\{[^}]*\}", "1", template.replace("{project}", project))
                wanted = operation.get("requestBody", {}).get("content", {})
                body = None
                if "application/json" in wanted:
                    body, type = (
                        json.dumps(wanted["application/json"].get("example") or {"class": "cat"}).encode(),
                        "application/json",
                    )
                elif wanted:
                    body, type = b"x", next(iter(wanted))
                headers = {"If-Match": "*"} if method == "PATCH" else {}
                if operation["operationId"] in (
                    "deleteInstances",
                    "putGoldByQuery",
                    "deleteGoldByQuery",
                    "deleteAnnotatorByQuery",
                ):
                    target += "?id=a"
                if operation["operationId"] == "deleteLabel":
                    target += "?ref=a"
                answers.append(bound.call(method, target, body, type=type if body else None, headers=headers))
            first, second = answers
            expected = 403 if operation["operationId"] == "putProject" else 404
            self.assertEqual(first.status, expected, (method, template, first))
            self.assertEqual(second.status, expected, (method, template, second))
            same = lambda a, p: {
                k: v.replace(p, "P") if isinstance(v, str) else v for k, v in a.json.items() if k != "instance"
            }
            self.assertEqual(same(first, foreign), same(second, missing), "existing or not must look the same")
        for name in (foreign, missing):
            self.problem(bound.post("/v1/projects", {"name": name, "classes": ["a", "b"]}), 403, "forbidden")
        self.assertEqual(self.api.get(other).json["counts"]["instances"], 0)
        self.api.get(other, expect=200)

    def test_prefix_reach(self):
        acme = self.client("read,write", "--project", "acme.*")
        acme.post("/v1/projects", {"name": "acme.one", "classes": ["a", "b"]}, expect=201)
        acme.put("/v1/projects/acme.two", {"classes": ["a", "b"]}, expect=201)
        for name in ("acme", "acmeX", "other.acme.x"):
            self.problem(acme.post("/v1/projects", {"name": name, "classes": ["a", "b"]}), 403, "forbidden")
            self.problem(acme.put("/v1/projects/" + name, {"classes": ["a", "b"]}), 403, "forbidden")
        self.project()
        self.assertEqual([p["name"] for p in acme.pages("/v1/projects", 1)], ["acme.one", "acme.two"])

    def test_annotator_binding(self):
        path = self.project()
        ana = self.client("submit", "--annotator", "ana")
        ana.post(path + "/labels", {"instance": "i", "annotator": "ana", "class": "cat", "ref": "mine"}, expect=201)
        self.problem(
            ana.post(path + "/labels", {"instance": "i", "annotator": "ben", "class": "cat"}), 403, "forbidden"
        )
        self.api.post(
            path + "/labels", {"instance": "i", "annotator": "ben", "class": "dog", "ref": "bens"}, expect=201
        )
        self.assertEqual([v["annotator"] for v in ana.get(path + "/labels").json["items"]], ["ana"])
        self.assertEqual(
            [v["annotator"] for v in ana.get(path + "/labels?after_seq=0&history=true").json["items"]], ["ana"]
        )
        self.assertEqual(ana.get(path + "/labels?ref=bens").json["items"], [])
        for query in ("?instance=i&annotator=ben", "?ref=bens"):
            self.assertIn(ana.delete(path + "/labels" + query).status, (403, 404), query)
        self.assertEqual(len(self.api.get(path + "/labels").json["items"]), 2)
        bulk = ana.ndjson(
            path + "/labels", [{"instance": "i", "annotator": a, "class": "cat"} for a in ("ana", "ben", "eve")]
        ).json
        self.assertEqual((bulk["accepted"], bulk["rejected"]), (1, 2))
        ana.delete(path + "/labels?instance=i&annotator=ana", expect=204)
        self.problem(ana.get(path + "/instances"), 403, "forbidden")

    def test_submit_without_read_learns_nothing(self):
        path = self.project(dim=2)
        name = path.rsplit("/", 1)[1]
        synth.Crowd(60).load(self.api, path)
        self.api.train(name)
        submit = self.client("submit")
        body = submit.post(path + "/labels", {"instance": "i0001", "annotator": "new", "class": "cat"}, expect=201).json
        self.assertEqual((body["p_correct"], body["replaces"], body["model"]), (None, None, None))
        body = submit.post(path + "/labels", {"instance": "i0001", "annotator": "new", "class": "dog"}, expect=200).json
        self.assertEqual((body["p_correct"], body["replaces"], body["model"]), (None, None, None))
        both = self.client("submit,read")
        body = both.post(path + "/labels", {"instance": "i0001", "annotator": "new", "class": "cat"}, expect=200).json
        self.assertEqual((body["replaces"], body["model"]), ("dog", 1))

    def test_gold_is_left_out_everywhere_without_its_scope(self):
        path = self.project(classes=["cat", "dog", "GOLDEN"])
        self.api.post(path + "/instances", {"instances": [{"id": "i", "gold": "GOLDEN"}, {"id": "j"}]}, expect=201)
        self.api.post(path + "/labels", {"instance": "i", "annotator": "a", "class": "cat"}, expect=201)
        read = self.client("read")
        one = read.get(path + "/instances/i", expect=200).json
        self.assertNotEqual(one.get("gold"), "GOLDEN")
        for item in read.get(path + "/instances", expect=200).json["items"]:
            self.assertIsNone(item.get("gold"))
        self.assertIsNone(read.get(path).json["counts"]["gold"])
        self.assertIsNone(
            next(p for p in read.pages("/v1/projects", 100) if "/v1/projects/" + p["name"] == path)["counts"]["gold"]
        )
        self.problem(read.get(path + "/gold"), 403, "forbidden")
        self.problem(read.get(path + "/instances?has_gold=true"), 403, "forbidden")
        self.assertIsNone(read.get(path + "/reliability").json["items"][0]["against_gold"])
        self.assertIsNone(read.get(path + "/reliability/a").json["against_gold"])
        consensus = {c["instance"]: c for c in read.get(path + "/consensus").json["items"]}
        self.assertFalse(consensus["i"]["resolved"], "resolved must not tell that there is gold")
        full = {c["instance"]: c for c in self.api.get(path + "/consensus").json["items"]}
        self.assertTrue(full["i"]["resolved"])
        write = self.client("write,submit,read")
        refused = write.post(path + "/instances", {"instances": [{"id": "k", "gold": "cat"}]})
        self.assertIn(refused.status, (403, 422), refused)
        self.assertEqual(self.api.get(path).json["counts"]["gold"], 1)

    def test_metrics_against_gold_need_the_scope(self):
        """A metric against gold is not a gold label: accuracy may be read. What must not leak is any single one."""
        path = self.project(dim=2)
        synth.Crowd(60).load(self.api, path)
        self.api.train(path.rsplit("/", 1)[1])
        read = self.client("read")
        read.get(path + "/models/1", expect=200)
        read.get(path + "/training-runs/1", expect=200)

    def test_revoked_stops_working_at_once(self):
        made = self.api.post("/v1/tokens", {"name": "short", "scopes": ["read"]}, expect=201)
        self.secrets.append(made.json["token"])
        client = Client(self.server, made.json["token"])
        client.get("/v1/projects", expect=200)
        self.api.delete("/v1/tokens/%d" % made.json["id"], expect=204)
        self.problem(client.get("/v1/projects"), 401, "unauthorized")
        self.assertEqual(self.api.delete("/v1/tokens/%d" % made.json["id"]).status, 404)
        client.close()
        # And on the command line, while the server runs.
        token = self.make("cli", "read")
        client = Client(self.server, token)
        client.get("/v1/projects", expect=200)
        listed = command("token", "list", "--db", self.server.db, "--json", check=0).out
        row = next(r for r in map(json.loads, listed.splitlines()) if r["name"] == "cli")
        command("token", "revoke", str(row["id"]), "--db", self.server.db, check=0)
        self.problem(client.get("/v1/projects"), 401, "unauthorized")
        client.close()

    def test_expiry(self):
        answer = self.api.post("/v1/tokens", {"name": "old", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"})
        if answer.status == 201:
            self.secrets.append(answer.json["token"])
            self.problem(Client(self.server, answer.json["token"]).get("/v1/projects"), 401, "unauthorized")
        else:
            self.assertEqual(answer.status, 422, answer)
        good = self.api.post(
            "/v1/tokens", {"name": "new", "scopes": ["read"], "expires_at": "2035-01-01T00:00:00+02:00"}, expect=201
        ).json
        self.secrets.append(good["token"])
        self.assertEqual(good["expires_at"], "2034-12-31T22:00:00.000Z")
        Client(self.server, good["token"]).get("/v1/projects", expect=200)

    def test_tokens_api(self):
        answer = self.api.post(
            "/v1/tokens",
            {"name": "n", "scopes": ["submit", "read"], "project": "acme.*", "annotator": "ana"},
            expect=201,
        )
        body = answer.json
        self.secrets.append(body["token"])
        self.assertEqual(
            (body["scopes"], body["project"], body["annotator"], body["expires_at"]),
            (["submit", "read"], "acme.*", "ana", None),
        )
        self.assertTrue(body["token"].startswith(body["prefix"]))
        self.assertEqual(answer.header("Location"), "/v1/tokens/%d" % body["id"])
        items = self.api.pages("/v1/tokens", 3)
        self.assertIn(body["id"], [t["id"] for t in items])
        self.assertNotIn(body["token"], json.dumps(items))
        for bad, pointer in [
            ({"scopes": []}, "/scopes"),
            ({"scopes": ["reed"]}, "/scopes/0"),
            ({"name": ""}, "/name"),
            ({"project": "a/b"}, "/project"),
            ({"expires_at": "soon"}, "/expires_at"),
            ({"scope": "read"}, "/scope"),
            ({"annotator": ".."}, "/annotator"),
        ]:
            self.problem(
                self.api.post("/v1/tokens", {"name": "n", "scopes": ["read"], **bad}),
                422,
                "invalid-body",
                pointer=pointer,
            )
        self.problem(self.client("read,write,gold,train,submit").get("/v1/tokens"), 403, "forbidden")
        self.problem(self.client("admin", "--project", "acme.*").get("/v1/tokens"), 403, "forbidden")
        self.assertEqual(self.api.delete("/v1/tokens/999999").status, 404)
        self.assertEqual(self.api.delete("/v1/tokens/x").status, 404)

    def test_idempotency_key_never_stores_a_token(self):
        answer = self.api.post("/v1/tokens", {"name": "n", "scopes": ["read"]}, headers={"Idempotency-Key": "k"})
        self.problem(answer, 400, "idempotency")

    def test_scopes_are_a_set(self):
        path = self.project()
        train = self.client("train")
        self.problem(train.get(path), 403, "forbidden")
        self.problem(
            train.post(path + "/labels", {"instance": "i", "annotator": "a", "class": "cat"}), 403, "forbidden"
        )
        submit = self.client("submit")  # bound to nobody: there is no "own" to read back
        self.problem(submit.get(path + "/labels"), 403, "forbidden")


class Origins(Case):
    """While no token is required, a page of another origin changes nothing (CSRF)."""

    def test_foreign_origin(self):
        path = self.project(dim=2)
        runs = path + "/training-runs"
        host = "127.0.0.1:%d" % self.server.port
        for origin in ("http://evil.example", "null", "http://evil.example:%d" % self.server.port, "https://x/" + host, host, ""):
            foreign = {"Origin": origin}
            self.problem(self.api.call("POST", runs, headers=foreign), 403, "forbidden")
            self.problem(self.api.delete(path, headers={**foreign, "If-Match": "*"}), 403, "forbidden")
            form = {**foreign, "Content-Type": "application/x-www-form-urlencoded"}
            self.assertEqual(self.api.call("POST", "/v1/projects", b"name=x", headers=form).status, 403)
            answer = self.api.get(path, headers=foreign, expect=200)
            self.assertIsNone(answer.header("Access-Control-Allow-Origin"))
        self.assertEqual(self.api.call("POST", "/v1/projects", b"name=x", type="application/x-www-form-urlencoded").status, 415)
        self.api.post(path + "/labels", {"labels": []}, headers={"Origin": "http://" + host}, expect=(200, 201))
        self.api.get(path, expect=200)


class AutoAuth(Case):
    """--auth auto on loopback: open until the first token is made, and it says so."""

    def test_open_until_the_first_token(self):
        self.assertRegex(self.server.log().lower(), r"open|no token|without token|tokens are off")
        self.api.get("/v1/projects", expect=200)
        body = self.api.post("/v1/tokens", {"name": "first", "scopes": ["admin"]}, expect=201).json
        self.problem(self.api.get("/v1/projects"), 401, "unauthorized")
        closed = Client(self.server, body["token"])
        closed.get("/v1/projects", expect=200)
        closed.close()
        self.api.close()
        self.server.stop()
        self.server.start()
        self.problem(self.api.get("/v1/projects"), 401, "unauthorized")
        Client(self.server, body["token"]).get("/v1/projects", expect=200)


class FirstToken(Case):
    """Tokens required and none there: one admin token is made and printed once."""

    args = ("--auth", "token")

    def test_printed_once(self):
        tokens = re.findall(r"amx_[A-Za-z0-9_-]{43}", self.server.log())
        self.assertEqual(len(set(tokens)), 1, self.server.log())
        self.api.token = tokens[0]
        self.api.get("/v1/tokens", expect=200)
        self.api.close()
        self.server.stop()
        size = len(self.server.log())
        self.server.start()
        self.assertNotRegex(self.server.log()[size:], r"amx_[A-Za-z0-9_-]{43}")
        self.api.get("/v1/tokens", expect=200)


class TokenFile(Case):
    @classmethod
    def setUpClass(cls):
        import tempfile

        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(lambda: subprocess.run(["rm", "-rf", cls.folder], check=False))
        cls.token = "amx_" + "Q" * 43
        cls.env = {"ANNOTMIX_ADMIN_TOKEN_FILE": os.path.join(cls.folder, "token"), "ANNOTMIX_AUTH": "token"}
        with open(cls.env["ANNOTMIX_ADMIN_TOKEN_FILE"], "w", encoding="ascii") as f:
            f.write(cls.token + "\n")
        super().setUpClass()

    def test_admin_from_a_file(self):
        self.problem(self.api.get("/v1/projects"), 401, "unauthorized")
        self.api.token = self.token
        self.api.get("/v1/tokens", expect=200)
        self.assertNotIn(self.token, self.server.log())
