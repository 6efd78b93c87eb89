"""Start, stop, kill -9, backup, import and export, exit codes of the command line."""

import http.client
import json
import os
import re
import shutil
import socket
import sqlite3
import stat
import tempfile
import threading
import time
import unittest

import synth
from harness import BINARY, DATA, Case, Client, Server, command, until


def temporary(test):
    folder = tempfile.mkdtemp(prefix="annotmix-http-")
    test.addCleanup(shutil.rmtree, folder, True)
    return folder


class Shutdown(Case):
    args = ("--trainers", "1")

    def test_sigterm_with_open_long_polls_streams_and_uploads(self):
        path = self.project(dim=2)
        synth.Crowd(60).load(self.api, path)
        run = self.api.post(path + "/training-runs", {"settings": {"epochs": 10000, "hidden": [64]}}, expect=202).json[
            "id"
        ]
        url = path + "/training-runs/%d" % run
        until(lambda: self.api.get(url).json["state"] == "running", "a running run")
        polls, streams = [], []
        for _ in range(10):
            c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
            c.request("GET", url + "?wait=55")
            polls.append(c)
        for _ in range(10):
            c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
            c.request("GET", url + "/events")
            streams.append((c, c.getresponse()))
        upload = socket.create_connection(("127.0.0.1", self.server.port))
        upload.sendall(
            (
                "POST %s/labels HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
                'Content-Length: 1000000\r\n\r\n{"instance":' % path
            ).encode()
        )
        idle = socket.create_connection(("127.0.0.1", self.server.port))
        until(lambda: b"annotmix" in self.api.get("/metrics").body, "the metrics")
        self.api.close()
        took = self.server.stop()
        self.assertLess(took, 10)
        for c in polls:
            answer = c.getresponse()
            body = answer.read()
            self.assertIn(answer.status, (200, 503), body)
            if answer.status == 200:
                self.assertEqual(json.loads(body)["id"], run)
            c.close()
        for c, answer in streams:
            answer.read()
            c.close()
        upload.close()
        idle.close()
        self.server.start()
        self.assertIn(self.api.get(url).json["state"], ("queued", "running"))
        self.api.post(url + "/cancel", expect=202)

    def test_sigterm_while_clients_come_and_go(self):
        """libmicrohttpd's own way to stop listening races with its workers and aborts the process now and then."""
        for _ in range(15):
            server, stop = Server(), threading.Event()
            self.addCleanup(server.remove)

            def knock():
                while not stop.is_set():
                    try:
                        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
                        connection.request("GET", "/livez")
                        connection.getresponse().read()
                        connection.close()
                    except (OSError, http.client.HTTPException):
                        pass  # refused or cut: it stops

            threads = [threading.Thread(target=knock) for _ in range(3)]
            for thread in threads:
                thread.start()
            try:
                server.stop()
            finally:
                stop.set()
                for thread in threads:
                    thread.join()

    def test_second_sigterm_ends_at_once(self):
        server = Server()
        self.addCleanup(server.remove)
        server.process.terminate()
        server.process.terminate()
        self.assertIsNotNone(server.process.wait(10))

    def test_sigint_is_clean_too(self):
        import signal

        server = Server()
        self.addCleanup(server.remove)
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(server.process.wait(10), 0, server.log())
        self.assertFalse(os.path.exists(server.db + ".sock"))


class Kill(Case):
    def test_acknowledged_labels_survive_kill_9(self):
        path = self.project()
        acknowledged, stop, lock = set(), threading.Event(), threading.Lock()

        def writer(number):
            client = Client(self.server)
            n = 0
            while not stop.is_set():
                name = "w%d-%d" % (number, n)
                try:
                    answer = client.post(
                        path + "/labels", {"instance": name, "annotator": "a%d" % number, "class": "cat"}
                    )
                except (OSError, http.client.HTTPException):
                    client.close()
                    time.sleep(0.01)
                    continue
                if answer.status in (200, 201):
                    with lock:
                        acknowledged.add(name)
                    n += 1
            client.close()

        threads = [threading.Thread(target=writer, args=(n,)) for n in range(4)]
        for t in threads:
            t.start()
        try:
            for cycle in range(3):
                goal = len(acknowledged) + 60
                until(lambda: len(acknowledged) >= goal, "60 more labels")
                self.server.kill()
                begin = time.monotonic()
                self.server.start()
                self.assertLess(time.monotonic() - begin, 10)
        finally:
            stop.set()
            for t in threads:
                t.join()
        self.api.close()
        found = [i["instance"] for i in self.api.pages(path + "/labels", 1000)]
        self.assertEqual(len(found), len(set(found)), "doubled")
        self.assertEqual(acknowledged - set(found), set(), "lost")
        counts = self.api.get(path).json["counts"]
        self.assertEqual((counts["labels"], counts["instances"]), (len(found), len(found)))
        self.api.close()
        self.server.stop()
        with sqlite3.connect(self.server.db) as db:
            self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            self.assertEqual(db.execute("PRAGMA foreign_key_check").fetchall(), [])
        self.server.start()


class Backup(Case):
    def test_online_backup_and_restored_copy(self):
        path = self.project(dim=2, classes=synth.CLASSES)
        name = path.rsplit("/", 1)[1]
        crowd = synth.Crowd(60)
        crowd.load(self.api, path)
        self.api.train(name)
        question = {"instances": [{"features": [0.5, 0.5]}]}
        wanted = self.api.post(path + "/predict", question, expect=200).json["predictions"]
        folder = temporary(self)
        target = os.path.join(folder, "annotmix.db")
        command("backup", target, "--db", self.server.db, check=0)
        self.assertEqual(stat.S_IMODE(os.stat(target).st_mode) & 0o077, 0)
        self.api.post(path + "/labels", {"instance": "i0001", "annotator": "later", "class": "cat"}, expect=201)
        copy = Server(folder=folder)
        try:
            api = Client(copy)
            self.assertEqual(api.get(path).json["counts"]["labels"], len(crowd.labels))
            self.assertEqual(api.post(path + "/predict", question, expect=200).json["predictions"], wanted)
            self.assertEqual(api.get(path).json["uid"], self.api.get(path).json["uid"])
            api.train(name)
            api.close()
            copy.stop()
        finally:
            copy.kill()
        self.assertNotEqual(
            command("backup", target, "--db", self.server.db).returncode, 0, "never over an existing file"
        )
        self.assertNotEqual(command("backup", os.path.join(folder, "no", "such"), "--db", self.server.db).returncode, 0)


class ImportExport(Case):
    def test_round_trip(self):
        folder = temporary(self)
        source = os.path.join(folder, "source")
        os.mkdir(source)
        crowd = synth.Crowd(50)
        with open(os.path.join(source, "instances.csv"), "w", encoding="utf-8") as f:
            f.write(
                "instance,split,f0,f1\n"
                + "".join("%s,%s,%r,%r\n" % (i["id"], i["split"], *i["features"]) for i in crowd.instances)
            )
        with open(os.path.join(source, "labels.csv"), "w", encoding="utf-8") as f:
            f.write(
                "task,worker,label\n"
                + "".join("%s,%s,%s\n" % (v["instance"], v["annotator"], v["class"]) for v in crowd.labels)
            )
        with open(os.path.join(source, "gold.csv"), "w", encoding="utf-8") as f:
            f.write("instance,class\n" + "".join("%s,%s\n" % item for item in crowd.gold.items()))
        command("import", "round", source, "--db", self.server.db, check=0)
        project = self.api.get("/v1/projects/round", expect=200).json
        self.assertEqual((project["classes"], project["feature_dim"]), (synth.CLASSES, 2))
        self.assertEqual(
            {k: project["counts"][k] for k in ("instances", "labels", "gold", "annotators")},
            {"instances": 50, "labels": 150, "gold": 50, "annotators": 5},
        )
        command("import", "round", source, "--db", self.server.db, check=0)  # again: nothing changes
        self.assertEqual(self.api.get("/v1/projects/round").json["counts"], project["counts"])
        out = os.path.join(folder, "out")
        command("export", "round", out, "--db", self.server.db, check=0)
        command("import", "again", out, "--db", self.server.db, check=0)
        for what in ("labels", "gold"):
            a, b = (self.api.pages("/v1/projects/%s/%s" % (p, what), 100) for p in ("round", "again"))
            key = lambda items: sorted((i["instance"], i.get("annotator"), i["class"]) for i in items)
            self.assertEqual(key(a), key(b))
        a, b = (
            sorted(
                (i["id"], i["split"], tuple(i["features"]))
                for i in self.api.pages("/v1/projects/%s/instances?features=true" % p, 100)
            )
            for p in ("round", "again")
        )
        self.assertEqual(a, b)
        self.assertEqual(self.api.get("/v1/projects/again").json["classes"], synth.CLASSES)
        models = [
            self.api.get("/v1/projects/%s/models/%d/file" % (p, self.api.train(p)["model"])).body
            for p in ("round", "again")
        ]
        self.assertEqual(models[0], models[1], "the same data give the same model")

    def test_without_a_server(self):
        folder = temporary(self)
        db = os.path.join(folder, "own.db")
        digits = os.path.join(DATA, "digits")
        if not os.path.exists(os.path.join(digits, "labels.csv")):
            self.skipTest("tests/data/digits is not there")
        command("import", "digits", digits, "--db", db, check=0)
        out = os.path.join(folder, "out")
        command("export", "digits", out, "--db", db, check=0)
        self.assertTrue(
            os.path.exists(os.path.join(out, "labels.csv")) or os.path.exists(os.path.join(out, "labels.csv.gz"))
        )
        server = Server(folder=folder, start=False)
        server.db = db
        server.start()
        try:
            api = Client(server)
            counts = api.get("/v1/projects/digits", expect=200).json["counts"]
            self.assertEqual((counts["instances"], counts["labels"], counts["annotators"]), (1797, 4137, 12))
            api.close()
            server.stop()
        finally:
            server.kill()

    def test_wrong_folders(self):
        folder = temporary(self)
        self.assertEqual(command("import", "x", os.path.join(folder, "nothing"), "--db", self.server.db).returncode, 1)
        self.assertEqual(
            command("export", "no-such-project", os.path.join(folder, "y"), "--db", self.server.db).returncode, 1
        )
        with open(os.path.join(folder, "labels.csv"), "w", encoding="utf-8") as f:
            f.write("a,b,c\n1,2,3\n")
        with open(os.path.join(folder, "instances.csv"), "w", encoding="utf-8") as f:
            f.write("instance,split,f0\n1,train,1\n")
        done = command("import", "bad", folder, "--db", self.server.db)
        self.assertEqual(done.returncode, 1)
        self.assertIn("labels.csv", done.err)


class CommandLine(unittest.TestCase):
    def test_usage_is_2(self):
        for words in (
            [],
            ["sevre"],
            ["serve", "--lisen", "x"],
            ["serve", "--listen"],
            ["serve", "--threads", "0"],
            ["token"],
            ["token", "make"],
            ["token", "create"],
            ["import"],
            ["export", "a"],
            ["backup"],
            ["fit"],
            ["serve", "extra"],
            ["serve", "--auth", "maybe"],
            ["version", "x"],
            ["fit", "a", "--seed"],
        ):
            done = command(*words)
            self.assertEqual(done.returncode, 2, (words, done.out, done.err))
            self.assertTrue(done.err, words)

    def test_help_and_version_are_0(self):
        import re

        for words in (
            ["--help"],
            ["help"],
            ["serve", "--help"],
            ["token", "--help"],
            ["fit", "--help"],
            ["import", "--help"],
            ["export", "--help"],
            ["backup", "--help"],
            ["migrate", "--help"],
            ["version"],
            ["--version"],
        ):
            done = command(*words)
            self.assertEqual(done.returncode, 0, (words, done.err))
            self.assertTrue(done.out, words)
        self.assertRegex(command("version").out, r"^annotmixd \d+\.\d+\.\d+\n")

    def test_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            folder = temporary(self)
            done = command(
                "serve", "--db", os.path.join(folder, "a.db"), "--listen", "127.0.0.1:%d" % taken.getsockname()[1]
            )
            self.assertIn(done.returncode, (1, 75), done.err)
            self.assertRegex(done.err, r"in use|address")

    def test_two_servers_on_one_file_is_75(self):
        server = Server()
        self.addCleanup(server.remove)
        done = command("serve", "--db", server.db, "--listen", "127.0.0.1:0")
        self.assertEqual(done.returncode, 75, done.err)
        server.stop()

    def test_bad_addresses(self):
        folder = temporary(self)
        for address in ("nonsense", "127.0.0.1", "127.0.0.1:99999", "256.1.1.1:80", ":x"):
            done = command("serve", "--db", os.path.join(folder, "a.db"), "--listen", address)
            self.assertIn(done.returncode, (1, 2), (address, done.err))

    def test_read_only_folder(self):
        folder = temporary(self)
        os.chmod(folder, 0o500)
        self.addCleanup(os.chmod, folder, 0o700)
        if os.access(folder, os.W_OK):  # root may write anywhere: a path that cannot be made serves as well
            folder = "/proc/annotmix"
        done = command("serve", "--db", os.path.join(folder, "a.db"), "--listen", "127.0.0.1:0")
        self.assertEqual(done.returncode, 1, done.err)
        self.assertIn("a.db", done.err)

    def test_a_database_of_another_program(self):
        folder = temporary(self)
        other = os.path.join(folder, "other.db")
        with sqlite3.connect(other) as db:
            db.execute("CREATE TABLE t (x)")
        text = os.path.join(folder, "text.db")
        with open(text, "w", encoding="utf-8") as f:
            f.write("this is no database\n" * 100)
        for path in (other, text):
            with open(path, "rb") as f:
                before = f.read()
            for words in (["serve", "--listen", "127.0.0.1:0"], ["migrate"]):
                done = command(*words, "--db", path)
                self.assertEqual(done.returncode, 1, (path, done.out, done.err))
                self.assertIn(os.path.basename(path), done.err)
            with open(path, "rb") as f:
                self.assertEqual(f.read(), before, "it was changed")

    def test_a_newer_database(self):
        server = Server()
        self.addCleanup(server.remove)
        server.stop()
        with sqlite3.connect(server.db) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            self.assertGreater(version, 0)
            db.execute("PRAGMA user_version = %d" % (version + 1))
        db.close()
        done = command("serve", "--db", server.db, "--listen", "127.0.0.1:0")
        self.assertEqual(done.returncode, 1, done.err)
        self.assertRegex(done.err, r"newer|version")

    def test_migrate_makes_and_accepts(self):
        folder = temporary(self)
        db = os.path.join(folder, "m.db")
        command("migrate", "--db", db, check=0)
        command("migrate", "--db", db, check=0)
        self.assertTrue(os.path.exists(db))
        self.assertFalse(os.path.exists(db + ".sock"))

    def test_token_without_a_server(self):
        folder = temporary(self)
        db = os.path.join(folder, "t.db")
        token = command("token", "create", "--name", "n", "--scope", "read,submit", "--db", db, check=0).out.strip()
        self.assertIn("n", command("token", "list", "--db", db, check=0).out)
        server = Server(folder=folder, start=False)
        server.db = db
        server.start()
        try:
            Client(server, token).get("/v1/projects", expect=200)
            self.assertEqual(Client(server).get("/v1/projects").status, 401)
            self.assertEqual(
                command("token", "create", "--name", "n", "--scope", "everything", "--db", db).returncode, 1
            )
            self.assertEqual(command("token", "revoke", "12345", "--db", db).returncode, 1)
            server.stop()
        finally:
            server.kill()

    def test_modes_of_files(self):
        server = Server()
        self.addCleanup(server.remove)
        self.assertEqual(stat.S_IMODE(os.stat(server.db).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(server.db + ".sock").st_mode), 0o600)
        server.stop()

    def test_environment_and_flags(self):
        folder = temporary(self)
        env = {"ANNOTMIX_BODY_BYTES": "2K", "ANNOTMIX_LOG_LEVEL": "warn"}
        server = Server("--log-level", "info", env=env)
        self.addCleanup(server.remove)
        api = Client(server)
        self.assertEqual(api.get("/v1/", expect=200).json["limits"]["body_bytes"], 2048)
        self.assertTrue(server.log(), "the flag beats the environment")
        api.close()
        server.stop()
        self.assertEqual(
            command("serve", "--db", os.path.join(folder, "a.db"), env={"ANNOTMIX_THREADS": "many"}).returncode, 2
        )

    def test_health_command(self):
        folder = temporary(self)
        self.assertEqual(command("health", "--db", os.path.join(folder, "none.db")).returncode, 1)
        server = Server()
        self.addCleanup(server.remove)
        command("health", "--db", server.db, check=0)
        server.stop()

    def test_fit(self):
        digits = os.path.join(DATA, "digits")
        if not os.path.exists(os.path.join(digits, "labels.csv")):
            self.skipTest("tests/data/digits is not there")
        words = [
            "fit",
            digits,
            "--repeat",
            "2",
            "--seed",
            "5",
            "--set",
            "epochs=2",
            "--set",
            "hidden=16",
            "--set",
            "dropout=0.25",
            "--set",
            "annotator_embedding=8",
            "--json",
        ]
        body = json.loads(command(*words, check=0).out.splitlines()[-1])
        self.assertEqual((body["method"], body["repeat"]), ("annot_mix", 2))
        accuracy = body["test"]["accuracy"]
        self.assertEqual(len(accuracy["values"]), 2)
        self.assertAlmostEqual(accuracy["mean"], sum(accuracy["values"]) / 2, places=6)
        self.assertGreater(accuracy["mean"], 0.3)
        self.assertGreater(body["labels_per_second"], 0)
        self.assertIsInstance(body["seconds"], (int, float))
        again = json.loads(command(*words, check=0).out.splitlines()[-1])
        self.assertEqual(again["test"], body["test"])
        self.assertTrue(command("fit", digits, "--set", "epochs=1", "--set", "hidden=4", check=0).out)
        for wrong in (
            ["--set", "epoch=1"],
            ["--set", "alpha=99"],
            ["--method", "magic"],
            ["--ensemble", "0"],
            ["--set", "alpha"],
        ):
            self.assertIn(command("fit", digits, *wrong).returncode, (1, 2), wrong)
        self.assertEqual(command("fit", "/nowhere").returncode, 1)
