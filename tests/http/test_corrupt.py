"""Bytes of the database file that have changed while it was closed: never a crash, never a write on top, always loud."""

import http.client
import os
import random
import sqlite3
import subprocess
import tempfile
import unittest

import synth
from harness import BINARY, REPORT, Client, Server, clean_environment, until

PAGES = 6  # of each table or index
PATHS = ("", "/labels?limit=1000", "/instances?limit=1000", "/annotators", "/reliability", "/consensus")


def pages_of(path, name):
    with sqlite3.connect(path) as db:
        size = db.execute("PRAGMA page_size").fetchone()[0]
        try:
            pages = [r[0] for r in db.execute("SELECT pageno FROM dbstat WHERE name = ? ORDER BY pageno", (name,))]
        except sqlite3.OperationalError:  # built without dbstat: the root at least
            pages = [db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0]]
    db.close()
    return size, pages


class Corrupt(unittest.TestCase):
    """Not a Case: its servers are corrupt on purpose."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.remove)
        api = Client(cls.server)
        api.post("/v1/projects", {"name": "p", "classes": synth.CLASSES, "feature_dim": 2}, expect=201)
        synth.Crowd(400).load(api, "/v1/projects/p")
        api.close()
        cls.server.stop()
        with open(cls.server.db, "rb") as f:
            cls.whole = f.read()

    def copy(self, flips):
        """A server's folder whose database has these bytes changed: {offset: xor}."""
        folder = tempfile.TemporaryDirectory(prefix="annotmix-corrupt-")
        self.addCleanup(folder.cleanup)
        data = bytearray(self.whole)
        for at, mask in flips.items():
            data[at] ^= mask
        with open(os.path.join(folder.name, "annotmix.db"), "wb") as f:
            f.write(data)
        os.chmod(f.name, 0o600)
        return folder.name, bytes(data)

    def broken(self, table, rng):
        """Bytes of the head and the cell pointers of pages of this table: what quick_check sees."""
        size, pages = pages_of(self.server.db, table)
        flips = {}
        for page in rng.sample(pages, min(PAGES, len(pages))):
            for at in rng.sample(range(16), 4):
                flips[(page - 1) * size + at + (100 if page == 1 else 0)] = rng.randrange(1, 256)
        return flips

    def start(self, folder, *flags):
        """The server, or (exit status, what it said) when it refuses."""
        try:
            return Server("--check", "full", *flags, folder=folder), None
        except AssertionError:
            done = subprocess.run([BINARY, "serve", "--db", os.path.join(folder, "annotmix.db"), "--listen", "127.0.0.1:0",
                                   "--check", "full"], env=clean_environment(), capture_output=True, timeout=60)
            return None, (done.returncode, done.stderr.decode(errors="replace"))

    def test_whole_is_told(self):
        folder, _ = self.copy({})
        server, _ = self.start(folder)
        self.addCleanup(server.remove)
        api = Client(server)
        self.assertRegex(api.get("/metrics").body.decode(), r"(?m)^annotmix_database_check 2$")
        self.assertIn('"the database is whole"', server.log())
        api.get("/readyz", expect=200)
        api.close()
        server.stop()

    def test_changed_bytes(self):
        seed = int(os.environ.get("SEED", "6"))
        rng = random.Random(seed)
        read_only = 0
        for table in ("labels", "instances", "labels", "annotators", "features", "meta") * 3:
            with self.subTest(table=table, seed=seed):
                _, pages = pages_of(self.server.db, table) if self.has(table) else (0, [])
                if not pages:
                    continue
                folder, before = self.copy(self.broken(table, rng))
                server, refused = self.start(folder)
                if server is None:
                    self.assertIn(refused[0], (1, 75), refused)  # not a signal
                    self.assertNotRegex(refused[1], REPORT)
                    self.assertRegex(refused[1], "(?i)corrupt|malformed|not a database|error")
                else:
                    self.addCleanup(server.remove)
                    read_only += self.is_read_only(server)
                    server.stop()
                    with open(os.path.join(folder, "annotmix.db"), "rb") as f:
                        self.assertEqual(f.read(), before, "something was written on top")
        self.assertGreater(read_only, 3)

    def has(self, table):
        with sqlite3.connect(self.server.db) as db:
            return db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone() is not None

    def is_read_only(self, server):
        """Writes 503, readiness 503, reads answer something, the log says it."""
        self.assertRegex(server.log(), r'"level":"error"[^\n]*database corrupt: read-only for good')
        api = Client(server)
        label = {"instance": "i0001", "annotator": "late", "class": synth.CLASSES[0]}
        self.assertIn(api.post("/v1/projects/p/labels", label).status, (503, 404))
        self.assertEqual(api.post("/v1/projects", {"name": "q", "classes": ["a", "b"]}).status, 503)
        api.get("/livez", expect=200)
        api.get("/readyz", expect=503)
        for path in PATHS:
            try:
                self.assertIn(api.get("/v1/projects/p" + path).status, (200, 404, 503))
            except (http.client.IncompleteRead, ConnectionError):  # a stream that cannot go on is cut
                api.close()
        metrics = api.get("/metrics").body.decode()
        self.assertRegex(metrics, r"(?m)^annotmix_write_read_only 1$")
        self.assertRegex(metrics, r"(?m)^annotmix_database_check 3$")
        api.close()
        self.assertIsNone(server.process.poll())
        return 1
