#!/usr/bin/env python3
"""Fills a database with the program of one schema version and keeps it as SQL, with a model file and what it predicts.

    make_dump.py --binary OLD/annotmixd      writes schema-N.sql, model-N.amx, expected-N.json beside this file

Run it once, with the released program, before the next migration is written.
"""
import argparse
import json
import sqlite3
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fault"))
from server import Server  # noqa: E402

SETTINGS = {"epochs": 4, "hidden": [4], "annotator_embedding": 2, "batch_size": 16, "dropout": 0.0}
P = "/v1/projects/old"


def fill(server):
    server.must("POST", "/v1/projects", {"name": "old", "title": "Ältere Daten", "classes": ["a", "b", "ç"], "feature_dim": 3})
    server.must("POST", P + "/instances", {"instances": [
        {"id": f"i/{i}", "features": [i % 3, (i * 7 % 5) / 2, -i / 10], "split": "test" if i % 5 == 0 else "train", "metadata": {"n": i},
         "labels": [{"annotator": f"p{p}", "class": "abç"[(i + (p == 2)) % 3]} for p in range(4) if (i + p) % 2]} for i in range(30)]})
    server.must("POST", P + "/gold", {"gold": [{"instance": f"i/{i}", "class": "abç"[i % 3]} for i in range(0, 30, 5)]})
    server.must("POST", P + "/labels", {"instance": "i/2", "annotator": "p1", "class": "b"}, headers={"Idempotency-Key": "once"})
    server.must("DELETE", P + "/labels?instance=i%2F4&annotator=p1")
    for seed in (1, 2):
        run = server.must("POST", P + "/training-runs", {"seed": seed, "settings": SETTINGS})["id"]
        while not server.must("GET", f"{P}/training-runs/{run}?wait=20")["finished_at"]:
            pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "old.db"
        server = Server(parser.parse_args().binary, path)
        fill(server)
        connection = server.connection()
        connection.request("GET", P + "/models/2/file")
        model = connection.getresponse().read()
        question = {"instances": [{"features": [i, 1 - i, i / 2]} for i in range(4)], "annotators": ["p0", "p2"],
                    "return": ["p_class", "p_perf"]}
        expected = {"question": question, "answer": server.must("POST", P + "/predict", question)["predictions"],
                    "counts": server.must("GET", P)["counts"]}
        server.stop()
        db = sqlite3.connect(path)
        version, application = (db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("user_version", "application_id"))
        dump = "\n".join(line for line in db.iterdump() if not line.startswith(("BEGIN", "COMMIT")))
        db.close()
    (HERE / f"schema-{version}.sql").write_text(f"PRAGMA application_id = {application};\nPRAGMA user_version = {version};\n{dump}\n", "utf-8")
    (HERE / f"model-{version}.amx").write_bytes(model)
    (HERE / f"expected-{version}.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n", "utf-8")
    print(f"schema {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
