"""Backups that the server makes itself: whole, checked, counted, pruned; loud when they fail, and tried again."""

import json
import os
import re
import shutil
import sqlite3
import stat
import tempfile

import synth
from harness import Case, Client, Server, command, until

NAME = re.compile(r"annotmix-(\d{6})-\d{8}T\d{6}Z\.db")


def metric(api, name):
    text = api.get("/metrics", expect=200).body.decode()
    return float(re.search(r"^annotmix_%s (\S+)$" % name, text, re.M).group(1))


def copies(folder):
    return sorted(n for n in os.listdir(folder) if NAME.fullmatch(n))


class ServerBackups(Case):
    @classmethod
    def setUpClass(cls):
        cls.parent = tempfile.mkdtemp(prefix="annotmix-backups-")
        cls.folder = os.path.join(cls.parent, "copies")
        cls.args = ("--backup-every", "1s", "--backup-keep", "2", "--backup-dir", cls.folder)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.parent, ignore_errors=True)

    def wait_for_more(self, n=1):
        made = metric(self.api, "backups_made_total")
        until(lambda: metric(self.api, "backups_made_total") >= made + n, "%d more backups" % n)

    def test_made_checked_pruned_and_served(self):
        path = self.project(dim=2, classes=synth.CLASSES)
        crowd = synth.Crowd(30)
        crowd.load(self.api, path)
        first = copies(self.folder)
        self.wait_for_more(3)  # the first of them may have begun before the labels came
        self.assertEqual(stat.S_IMODE(os.stat(self.folder).st_mode), 0o700)
        until(lambda: len(copies(self.folder)) == 2, "two copies")
        kept = copies(self.folder)
        self.assertFalse(set(first) & set(kept), "the oldest go")
        self.assertEqual(metric(self.api, "backups_kept"), 2)
        self.assertEqual(metric(self.api, "backup_last_failed"), 0)
        self.assertGreater(metric(self.api, "backup_last_success_timestamp_seconds"), 1.6e9)
        self.assertGreater(metric(self.api, "backup_last_bytes"), 4096)
        made = [json.loads(line) for line in self.server.log().splitlines() if '"backup made"' in line]
        self.assertTrue(NAME.fullmatch(made[-1]["file"]), made[-1])
        # A copy taken aside (the server goes on deleting): readable by its owner only, sound, and it serves.
        folder = tempfile.mkdtemp(prefix="annotmix-restored-", dir=self.parent)
        target = os.path.join(folder, "annotmix.db")

        def take_newest():
            source = os.path.join(self.folder, copies(self.folder)[-1])
            try:
                self.assertEqual(stat.S_IMODE(os.stat(source).st_mode), 0o600)
                shutil.copyfile(source, target)
                return True
            except FileNotFoundError:
                return False

        until(take_newest, "a copy of a copy")
        with sqlite3.connect(target) as db:
            self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        db.close()
        server = Server(folder=folder)
        try:
            api = Client(server)
            self.assertEqual(api.get(path).json["counts"]["labels"], len(crowd.labels))
            api.close()
            server.stop()
        finally:
            server.kill()

    def test_failure_is_loud_and_tried_again(self):
        self.wait_for_more()
        aside = self.folder + ".aside"
        os.rename(self.folder, aside)
        failed = metric(self.api, "backups_failed_total")
        until(lambda: metric(self.api, "backups_failed_total") > failed + 1, "two failures")
        self.assertEqual(metric(self.api, "backup_last_failed"), 1)
        self.assertRegex(self.server.log(), r'"level":"error"[^\n]*the backup failed[^\n]*No such file')
        self.api.get("/readyz", expect=200)
        self.project(dim=2)  # writes go on
        os.rename(aside, self.folder)
        until(lambda: metric(self.api, "backup_last_failed") == 0, "a backup after the failure")


class OtherFiles(Case):
    """Numbers go on over a restart; only what the server made is deleted; a young copy is enough at the start."""

    def test_restart(self):
        folder = tempfile.mkdtemp(prefix="annotmix-backups-")
        self.addCleanup(shutil.rmtree, folder, True)
        strangers = ["annotmix-000001.db", "other-000001-20260101T000000Z.db", "annotmix-000001-20260101T000000Z.db.old",
                     "annotmix-000001-2026010aT000000Z.db", "notes.txt", "x.tmp"]
        for name in strangers:
            open(os.path.join(folder, name), "w").close()
        left_over = os.path.join(folder, "annotmix-000007-20260101T000000Z.db.tmp")
        open(left_over, "w").close()
        old = os.path.join(folder, "annotmix-000041-20990101T000000Z.db")  # the clock was wrong: the number decides
        open(old, "w").close()
        os.utime(old, (1e9, 1e9))
        flags = ("--backup-dir", folder, "--backup-every", "1h", "--backup-keep", "1")
        server = Server(*flags)
        self.addCleanup(server.remove)
        until(lambda: [n[9:15] for n in copies(folder)] == ["000042"], "the 42nd copy alone")
        self.assertFalse(os.path.exists(left_over))
        server.stop()
        newest = copies(folder)
        server.start()
        api = Client(server)
        self.assertEqual(metric(api, "backups_made_total"), 0)
        self.assertGreater(metric(api, "backup_last_success_timestamp_seconds"), 1.6e9)
        api.close()
        server.stop()
        self.assertEqual(copies(folder), newest)
        for name in strangers:
            self.assertTrue(os.path.exists(os.path.join(folder, name)), name)

    def test_wrong_settings(self):
        for words in (("--backup-every", "0"), ("--backup-every", "1w"), ("--backup-every", ""), ("--backup-keep", "0")):
            self.assertEqual(command("serve", *words).returncode, 2, words)
        folder = tempfile.mkdtemp(prefix="annotmix-backups-")
        self.addCleanup(shutil.rmtree, folder, True)
        done = command("serve", "--db", os.path.join(folder, "a.db"), "--listen", "127.0.0.1:0",
                       "--backup-dir", os.path.join(folder, "no", "such"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("backups", done.err)
