#!/usr/bin/env python3
"""Files of every released schema, opened by this program: migrated with all their data, whatever happens on the way.

    upgrade.py --binary build/annotmixd [--kills 15] [--seed N] [--log FILE]

For every schema-N.sql beside this file: migrate; the data is what it was, a copy of the old file lies beside it, the server
serves and its stored model predicts as it did. Then `migrate` is killed (kill -9) at random moments: the file is of the old
version or the new one, whole either way, and so is every copy. Model files of every version are read and predict the same.
A newer database and a foreign one are refused in clear words and stay as they are. --log FILE: the kills go on where a run
with the same log was stopped.
"""
import argparse
import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fault"))
from campaign import Campaign  # noqa: E402
from server import Server  # noqa: E402

P = "/v1/projects/old"
FILES_PER_PIECE = 10
SAME = 1e-5  # kernels of other processors sum in another order
passed = failed = 0


def check(good, text):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(("ok: " if good else "FAIL: ") + text, flush=True)


def make(path, version):
    db = sqlite3.connect(path)
    db.executescript((HERE / f"schema-{version}.sql").read_text("utf-8"))
    db.close()


# Columns of older schemas that a newer one keeps in another.
MOVED = {("features", "project_id"): "key >> 32", ("features", "instance_id"): "key & 4294967295",
         ("annotator_labels", "annotator_id"): "shelf & 4294967295"}


class Content:
    """What a file holds: version, shape, rows of the given columns (or of all)."""

    def __init__(self, path, columns=None):
        db = sqlite3.connect(path)
        self.version = db.execute("PRAGMA user_version").fetchone()[0]
        self.sound = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)] and not db.execute("PRAGMA foreign_key_check").fetchall()
        tables = [r[0] for r in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
        self.shape = {t: [c[1] for c in db.execute(f"PRAGMA table_info({t})")] for t in tables}
        self.rows = {}
        for table, names in (columns or self.shape).items():
            now = [name if name in self.shape[table] else MOVED[table, name] for name in names]
            self.rows[table] = sorted(map(repr, db.execute(f"SELECT {', '.join(now)} FROM {table}")))
        db.close()


def near(a, b):
    if isinstance(a, dict):
        return isinstance(b, dict) and all(k in b and near(v, b[k]) for k, v in a.items())
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(near, a, b))
    return abs(a - b) <= SAME if isinstance(a, float) and isinstance(b, (int, float)) else a == b


def migrate(binary, path):
    return subprocess.run([binary, "migrate", "--db", str(path)], capture_output=True, text=True, check=False, timeout=60)


def upgrade(binary, version, folder):
    expected = json.loads((HERE / f"expected-{version}.json").read_text("utf-8"))
    path = folder / "up.db"
    make(path, version)
    old = Content(path)
    done = migrate(binary, path)
    new = Content(path, old.shape)
    check(done.returncode == 0 and new.sound and new.rows == old.rows, f"schema {version} -> {new.version}: every old column as it was")
    copies = sorted(folder.glob("up.db.schema-*"))
    if new.version > version:
        copy = Content(copies[0]) if len(copies) == 1 else None
        check(copy and copy.sound and copy.version == version and copy.rows == old.rows, f"a copy of schema {version} lies beside it")
    else:
        check(not copies, "nothing to migrate, no copy")
    server = Server(binary, path)
    counts = server.must("GET", P)["counts"]
    check(near(expected["counts"], counts), f"the counts of schema {version} are served")
    check(near(expected["answer"], server.must("POST", P + "/predict", expected["question"])["predictions"]), "its stored model predicts as it did")
    server.must("POST", "/v1/projects", {"name": "other", "classes": ["a", "b", "ç"], "feature_dim": 3})
    model = (HERE / f"model-{version}.amx").read_bytes()
    status, _ = server.call("POST", "/v1/projects/other/models?activate=true", model, "application/vnd.annotmix.model")
    if status == 400:  # no such parameter: the first model is made active by name
        server.must("POST", "/v1/projects/other/models", model, media_type="application/vnd.annotmix.model")
        server.must("POST", "/v1/projects/other/models/1/activate")
    answer = server.must("POST", "/v1/projects/other/predict", expected["question"])["predictions"]
    check(near(expected["answer"], answer), f"the model file of schema {version}'s program predicts as it did")
    run = server.must("POST", P + "/training-runs", {"settings": {"epochs": 2, "hidden": [4]}})["id"]
    while not (row := server.must("GET", f"{P}/training-runs/{run}?wait=20"))["finished_at"]:
        pass
    check(row["state"] == "succeeded" and server.stop()[0] == 0, "it trains on")
    return new


def random_moment(process, copying, whole, rng):
    """Any time, or around the two moments that count: while the copy is made, and right after it."""
    mode = rng.randrange(3)
    if mode == 0:
        time.sleep(rng.uniform(0, 1.1 * whole))
        return
    while not copying.exists() and process.poll() is None:
        pass
    while mode == 2 and copying.exists() and process.poll() is None:
        pass
    time.sleep(rng.expovariate(1 / 0.004))


def kills(binary, version, newest, folder, n, rng):
    """n files, each killed three times; figures."""
    make(folder / "from.db", version)
    old, states, bad, most = Content(folder / "from.db"), {}, [], 0
    begin = time.monotonic()
    shutil.copyfile(folder / "from.db", folder / "time.db")
    migrate(binary, folder / "time.db")
    whole = time.monotonic() - begin
    for i in range(n):
        path = folder / f"k{i}.db"
        shutil.copyfile(folder / "from.db", path)
        for _ in range(3):  # killed again and again on the same file
            process = subprocess.Popen([binary, "migrate", "--db", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            random_moment(process, Path(f"{path}.schema.tmp"), whole, rng)
            process.kill()
            process.wait()
            now = Content(path, old.shape)
            states[now.version] = states.get(now.version, 0) + 1
            # Each migration is a transaction of its own: a version between the two is whole as well.
            shape = {version: old.shape, newest.version: newest.full_shape}.get(now.version, now.shape)
            if not now.sound or now.rows != old.rows or not version <= now.version <= newest.version or now.shape != shape:
                bad.append(f"{path.name}: version {now.version}")
        if migrate(binary, path).returncode != 0 or Content(path, old.shape).rows != old.rows:
            bad.append(f"{path.name}: not migrated in the end")
        copies = list(folder.glob(path.name + ".schema-*"))
        most = max(most, len(copies))
        for copy in (Content(c, old.shape) for c in copies):
            if not copy.sound or not version <= copy.version < newest.version or copy.rows != old.rows:
                bad.append(f"{path.name}: a copy is not whole")
        if not copies or (folder / (path.name + ".schema.tmp")).exists():
            bad.append(f"{path.name}: {len(copies)} copies, or one unfinished")
    return {"version": version, "kills": 3 * n, "states": {str(v): k for v, k in states.items()}, "copies": most, "bad": bad[:3]}


def all_kills(binary, versions, newest, n, campaign):
    """n files of every version, in pieces."""
    pieces = [(version, min(FILES_PER_PIECE, n - first)) for version in versions for first in range(0, n, FILES_PER_PIECE)]
    for number, rng in campaign.pieces(len(pieces)):
        with tempfile.TemporaryDirectory(prefix="annotmix-upgrade-") as name:
            campaign.finish(number, **kills(binary, pieces[number][0], newest, Path(name), pieces[number][1], rng))
    for version in versions:
        lines = [line for line in campaign.lines if line["version"] == version]
        bad, states = [b for line in lines for b in line["bad"]], {}
        for line in lines:
            for state, count in line["states"].items():
                states[state] = states.get(state, 0) + count
        check(not bad and lines, f"schema {version}, {sum(line['kills'] for line in lines)} kills: old or new, never between "
              f"(found {states}; at most {max(line['copies'] for line in lines)} copies) {bad[:3] or ''}")


def refusals(binary, kept, newest, folder):
    for name, pragma, words in (("newer", f"user_version = {newest + 1}", r"newer version"), ("foreign", "application_id = 77", r"another program")):
        path = folder / f"{name}.db"
        make(path, kept)
        migrate(binary, path)
        db = sqlite3.connect(path)
        db.execute("PRAGMA " + pragma)
        db.close()
        before = path.read_bytes()
        done = [subprocess.run([binary, *command, "--db", str(path)], capture_output=True, text=True, check=False, timeout=30)
                for command in (["migrate"], ["serve", "--listen", "127.0.0.1:0"], ["backup", str(folder / "none.db")])]
        check(all(d.returncode == 1 and re.search(words, d.stderr) for d in done) and path.read_bytes() == before,
              f"a {name} database is refused and stays as it is: {done[0].stderr.strip()[-90:]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--log")
    arguments = parser.parse_args()
    campaign = Campaign(arguments.log, arguments.seed)
    print(f"upgrade: --seed {campaign.seed}", flush=True)
    versions = sorted(int(p.stem.split("-")[1]) for p in HERE.glob("schema-*.sql"))
    released = sorted(int(p.name[:4]) for p in (HERE.parents[1] / "migrations").glob("[0-9]*.sql"))
    # The newest may not be released yet; make_dump.py keeps it before the next one is written.
    check(versions in (released, released[:-1]), f"a file is kept of every released schema: {versions} of {released}")
    with tempfile.TemporaryDirectory(prefix="annotmix-upgrade-") as name:
        for version in versions:
            folder = Path(name) / str(version)
            folder.mkdir()
            newest = upgrade(arguments.binary, version, folder)
            newest.full_shape = newest.shape
        all_kills(arguments.binary, [v for v in versions if v < newest.version], newest, arguments.kills, campaign)
        refusals(arguments.binary, versions[-1], newest.version, Path(name))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
