"""A server of its own for every test class, a client that checks every answer, and small helpers.

    class Labels(Case):
        args = ["--trainers", "1"]           # flags of the server
        def test_it(self):
            self.api.get("/v1/projects", expect=200)

The server gets a temporary folder and a free port, is waited for by its ready line, and must end with status 0
on SIGTERM without a sanitizer report. Tests wait for conditions (until()), never for times.
"""

import ctypes
import gzip
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.parse

from contract import ROOT, Contract, strict_json

BINARY = os.environ.get("ANNOTMIXD", os.path.join(ROOT, "build", "annotmixd"))
CONTRACT = Contract()
REPORT = re.compile(
    r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|ERROR: LeakSanitizer|Assertion .* failed"
)
TOKEN = re.compile(r"amx_[A-Za-z0-9_-]{43}")
FIRST_TOKEN = "Admin token, shown this once"  # the one line that may hold one
SENT_SECRETS = set()  # whatever was sent as Authorization by this process
KILL = getattr(signal, os.environ.get("ANNOTMIX_KILL", "SIGKILL"))  # a counting build writes its counters first
PATIENCE = 60  # seconds; only a broken program ever waits so long
DATA = os.path.join(ROOT, "tests", "data")


def quote(name):
    return urllib.parse.quote(name, safe="")


def until(condition, what="a condition", seconds=PATIENCE):
    """The first true value of condition()."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("waited %d s for %s in vain" % (seconds, what))
        time.sleep(0.01)


def clean_environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("ANNOTMIX_") or k == "ANNOTMIX_KERNEL"}
    env.setdefault("OPENBLAS_NUM_THREADS", "1")
    env.update(more)
    return env


def command(*words, env=None, check=None, cwd=None, timeout=PATIENCE, stdin=None):
    """Runs annotmixd with these words; check: the exit status it must have."""
    done = subprocess.run(
        [BINARY, *words],
        env=clean_environment(**(env or {})),
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        input=stdin,
    )
    done.out, done.err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    assert not REPORT.search(done.err), done.err[-4000:]
    if check is not None:
        assert done.returncode == check, "annotmixd %s: exit status %d\n%s\n%s" % (
            " ".join(words),
            done.returncode,
            done.out,
            done.err,
        )
    return done


def check_secrets(log):
    """No token, made up or real, stands in a log."""
    lines = [line for line in log.splitlines() if FIRST_TOKEN not in line]
    text = "\n".join(lines)
    found = TOKEN.findall(text) + [secret for secret in SENT_SECRETS if secret in text]
    assert not found, "a secret in the log: %r" % found[:3]


class Server:
    """One running annotmixd. folder: where the database lies (a new one when None)."""

    def __init__(self, *args, folder=None, env=None, start=True):
        self.folder = folder or tempfile.mkdtemp(prefix="annotmix-http-")
        self.own_folder = folder is None
        self.db = os.path.join(self.folder, "annotmix.db")
        self.args, self.env = list(args), env or {}
        self.log_path = os.path.join(self.folder, "server.log")
        self.process = None
        if start:
            try:
                self.start()
            except BaseException:
                self.remove()
                raise

    def start(self):
        libc = ctypes.CDLL(None)
        log = open(self.log_path, "ab")
        words = [BINARY, "serve", "--db", self.db, "--listen", "127.0.0.1:0", *self.args]
        self.process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=log,
            env=clean_environment(**self.env),
            preexec_fn=lambda: libc.prctl(1, signal.SIGKILL),
        )  # dies with the tests
        log.close()
        line = self._ready_line()
        match = re.fullmatch(r"annotmixd (\S+) listening on http://127\.0\.0\.1:(\d+)\n", line)
        if match is None:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the ready line is %r; log:\n%s" % (line, self.log()[-3000:]))
        self.version, self.port = match.group(1), int(match.group(2))
        return self

    def _ready_line(self):
        end, line = time.monotonic() + PATIENCE, b""
        while not line.endswith(b"\n") and time.monotonic() < end:
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                piece = os.read(self.process.stdout.fileno(), 4096)
                if piece == b"":
                    break
                line += piece
        return line.decode()

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def stop(self, limit=30):
        """SIGTERM; the exit must be clean and in time. Returns the seconds it took."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("still running %d s after SIGTERM; log:\n%s" % (limit, self.log()[-3000:])) from None
        finally:
            self.process.stdout.close()
        took = time.monotonic() - begin
        log = self.log()
        assert not REPORT.search(log), log[-6000:]
        check_secrets(log)
        assert status == 0, "exit status %d after SIGTERM; log:\n%s" % (status, log[-3000:])
        return took

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(KILL)
            self.process.wait()
        if self.process is not None and not self.process.stdout.closed:
            self.process.stdout.close()

    def remove(self):
        self.kill()
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        return self.headers.get(name)

    @property
    def json(self):
        return strict_json(self.body)

    @property
    def lines(self):
        return [strict_json(line) for line in self.body.splitlines()]

    def __repr__(self):
        return "<%d %.400r>" % (self.status, self.body)


class Client:
    """Talks to a server over kept connections. Every answer is checked against the document."""

    def __init__(self, server, token=None, headers=None):
        self.server, self.token, self.headers = server, token, headers or {}
        self.connection = None

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def call(
        self,
        method,
        target,
        body=None,
        *,
        json_body=None,
        type=None,
        headers=None,
        expect=None,
        check=True,
        timeout=PATIENCE
    ):
        sent = dict(self.headers)
        if self.token:
            sent["Authorization"] = "Bearer " + self.token
        if json_body is not None:
            body = json.dumps(json_body).encode()
            sent["Content-Type"] = "application/json"
        if type is not None:
            sent["Content-Type"] = type
        sent.update(headers or {})
        secret = sent.get("Authorization", "").rpartition(" ")[2]
        if len(secret) >= 12:  # shorter ones may stand in a log by chance
            SENT_SECRETS.add(secret)
        if isinstance(body, str):
            body = body.encode()
        response = self._exchange(method, target, body, sent, timeout)
        if check:
            CONTRACT.check(method, target, sent, body if isinstance(body, bytes) else b"", response)
        if expect is not None:
            wanted = expect if isinstance(expect, (tuple, set, list)) else (expect,)
            assert response.status in wanted, "%s %s: %r, wanted %s" % (method, target, response, expect)
        return response

    def _exchange(self, method, target, body, headers, timeout):
        for attempt in (0, 1):
            fresh = self.connection is None
            if fresh:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=timeout)
            self.connection.timeout = timeout
            if self.connection.sock is not None:
                self.connection.sock.settimeout(timeout)
            try:
                chunked = body is not None and not isinstance(body, bytes)
                self.connection.request(method, target, body=body, headers=headers, encode_chunked=chunked)
                answer = self.connection.getresponse()
                raw = answer.read()
                break
            except (ConnectionError, http.client.BadStatusLine):
                self.close()
                if fresh or attempt:  # a kept connection may have been closed meanwhile, a new one not
                    raise
        if answer.getheader("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        response = Response(answer.status, answer.headers, raw)
        if answer.will_close:
            self.close()
        return response

    def get(self, target, **more):
        return self.call("GET", target, **more)

    def head(self, target, **more):
        return self.call("HEAD", target, **more)

    def post(self, target, value=None, **more):
        return self.call("POST", target, json_body=value, **more)

    def put(self, target, value=None, **more):
        return self.call("PUT", target, json_body=value, **more)

    def patch(self, target, value=None, **more):
        return self.call("PATCH", target, json_body=value, **more)

    def delete(self, target, **more):
        return self.call("DELETE", target, **more)

    def ndjson(self, target, rows, **more):
        text = rows if isinstance(rows, (str, bytes)) else "".join(json.dumps(r) + "\n" for r in rows)
        return self.call("POST", target, text, type="application/x-ndjson", **more)

    def csv(self, target, text, **more):
        return self.call("POST", target, text, type="text/csv", **more)

    def pages(self, target, limit):
        """All items of a list, page by page."""
        items, cursor = [], None
        while True:
            join = "&" if "?" in target else "?"
            page = self.get(
                target + join + "limit=%d" % limit + ("&cursor=" + cursor if cursor else ""), expect=200
            ).json
            assert len(page["items"]) <= limit
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    def train(self, project, expect_state="succeeded", **request):
        """Trains with small settings and waits for the end. Returns the run."""
        request.setdefault("settings", {})
        request["settings"] = {**SMALL, **request["settings"]}
        path = "/v1/projects/%s/training-runs" % project
        run = self.post(path, request, expect=(200, 202)).json
        return self.wait(project, run["id"], expect_state)

    def wait(self, project, run_id, expect_state="succeeded"):
        path = "/v1/projects/%s/training-runs/%d?wait=30" % (project, run_id)
        run = until(
            lambda: (lambda r: r if r["finished_at"] else None)(self.get(path, expect=200).json), "the end of a run", 5 * PATIENCE
        )
        if expect_state:
            assert run["state"] == expect_state, run
        return run


SMALL = {"epochs": 4, "hidden": [8], "annotator_embedding": 4, "batch_size": 16, "dropout": 0.0}


def raw(port, data, until_closed=True, timeout=PATIENCE):
    """Sends bytes as they are; returns what came back until the server closed (or the first piece)."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as s:
        s.sendall(data)
        answer = b""
        while True:
            try:
                piece = s.recv(65536)
            except ConnectionResetError:
                break
            if piece == b"":
                break
            answer += piece
            if not until_closed:
                break
        return answer


class Case(unittest.TestCase):
    args = ()
    env = None
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.args, env=cls.env)
        cls.api = Client(cls.server)
        cls.addClassCleanup(cls.server.remove)
        try:
            cls.prepare()
        except BaseException:
            cls.api.close()
            cls.server.kill()
            raise

    @classmethod
    def prepare(cls):
        """What the tests of a class share."""

    @classmethod
    def tearDownClass(cls):
        cls.api.close()
        if cls.server.process.poll() is None:
            cls.server.stop()
        else:
            raise AssertionError(
                "the server has ended by itself, status %s; log:\n%s"
                % (cls.server.process.returncode, cls.server.log()[-4000:])
            )

    _numbers = iter(range(1, 1 << 30))

    def project(self, classes=("cat", "dog", "rabbit"), dim=0, **more):
        """A new project of a name nobody has; returns its path."""
        name = "p%d" % next(self._numbers)
        self.api.post("/v1/projects", {"name": name, "classes": list(classes), "feature_dim": dim, **more}, expect=201)
        return "/v1/projects/" + name

    def problem(self, response, status, kind, pointer=None, line=None, says=None):
        """The response is this problem."""
        self.assertEqual(response.status, status, response)
        body = response.json
        self.assertEqual(body["type"], "/problems/" + kind, body)
        errors = body.get("errors", [])
        if pointer is not None:
            self.assertIn(pointer, [e.get("pointer") for e in errors], body)
        if line is not None:
            self.assertIn(line, [e.get("line") for e in errors], body)
        if says is not None:
            self.assertIn(says, json.dumps(body), body)
        return body
