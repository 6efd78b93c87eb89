"""Limits of requests a second: by address before any other work, by token; health probes and the Unix socket are free."""

from harness import Case, Client, command


def until_refused(client, target):
    """Answers before the first 429, which must say when to come again; a slow machine may get a few more than the burst."""
    for n in range(2000):
        answer = client.get(target)
        if answer.status == 429:
            assert answer.json["type"] == "/problems/rate-limited", answer
            assert int(answer.header("Retry-After")) >= 1, answer
            return n
        assert answer.status == 200, answer
    raise AssertionError("never refused")


class RatePerAddress(Case):
    args = ("--rate-per-address", "2")

    def test_address(self):
        self.assertGreaterEqual(until_refused(self.api, "/v1/projects"), 10)
        for _ in range(50):
            self.api.get("/livez", expect=200)
            self.api.get("/readyz", expect=200)
        command("token", "list", "--db", self.server.db, check=0)  # by the Unix socket


class RatePerToken(Case):
    args = ("--auth", "token", "--rate-per-token", "2")

    def make(self):
        done = command("token", "create", "--db", self.server.db, "--name", "t", "--scope", "read", check=0)
        client = Client(self.server, done.out.strip().splitlines()[-1].strip())
        self.addCleanup(client.close)
        return client

    def test_one_token_does_not_use_up_the_other(self):
        one, other = self.make(), self.make()
        self.assertGreaterEqual(until_refused(one, "/v1/projects"), 10)
        other.get("/v1/projects", expect=200)
        nobody = Client(self.server, "amx_" + "A" * 43)
        self.addCleanup(nobody.close)
        for _ in range(100):
            nobody.get("/v1/projects", expect=401)
