#!/usr/bin/env python3
"""Power cuts at random moments: what was acknowledged is on the disk, whatever else the disk did not get to.

    power_cut.py --binary build/default/fault/annotmixd-fault [--cuts 2000] [--seed N] [--log FILE] [--mutant]

The program runs on shim_vfs.c, which keeps apart what a sync has made durable and what was only written. At the cut it
leaves, of the latter, a random part (torn at 512 bytes) and ends at once. The test starts it again on what is left and
compares as kill9.py does: acknowledged and not there = lost, never sent = invented, twice = duplicated; SQLite's
integrity_check looks at every one of these files. Cuts come under load, while the program starts (recovery) and while it
stops (checkpoint). --mutant runs with synchronous=OFF and must lose labels or break the file: then the test works.

--log FILE: a campaign that was stopped goes on where it was.
"""
import argparse
import http.client
import os
import random
import sqlite3
import sys
import tempfile
from pathlib import Path

from campaign import Campaign, report
from control import CUT_STATUS, MUTANTS, Control
from kill9 import CLASSES, Ledger, clients_at_work, read_feed, resend_unknown
from server import Server

CUTS_PER_FILE = 50
N_INSTANCES = 300
N_CLIENTS = 4


class Broken(Exception):
    """What a power cut must never do."""


def start(binary, db, control, log):
    """None when the power went while it started."""
    control.ops = 0
    try:
        return Server(binary, db, log=log, environment=control.environment)
    except RuntimeError as error:
        if f"exit status {CUT_STATUS}" in str(error):
            return None
        raise Broken(f"does not start: {error}") from error


def put_images(db):
    """The disk as the cut left it."""
    for suffix in ("", "-wal", "-journal"):
        path = Path(f"{db}{suffix}")
        if Path(f"{path}.cut").exists():
            os.replace(f"{path}.cut", path)
        elif Path(f"{path}.gone").exists():
            os.unlink(f"{path}.gone")
            path.unlink(missing_ok=True)
    Path(f"{db}-shm").unlink(missing_ok=True)


def load_until(server, ledger, rng, ended):
    """Clients send labels until ended() returns."""
    with clients_at_work(server, ledger, rng, N_CLIENTS) as failures:
        ended()
    if failures:
        raise Broken(str(failures[0]))


def wait_status(server, allowed):
    status = server.process.wait(60)
    if status not in allowed:
        raise Broken(f"exit status {status}")
    return status


def one_cut(server, control, ledger, rng, log):
    """Runs until the power is gone; returns where it went."""
    where = rng.choices(["load", "stop", "start"], [6, 3, 1])[0]
    control.cut_seed = rng.randrange(1 << 62)
    if where == "load":
        within = rng.choice([20, 200, 2000])
        control.cut_at = control.ops + rng.randint(1, within)
        load_until(server, ledger, rng, lambda: wait_status(server, [CUT_STATUS]))
        return where
    acked = len(ledger.acked)
    load_until(server, ledger, rng, lambda: server.wait_until(lambda: len(ledger.acked) > acked + rng.randint(1, 300)))
    if where == "stop":
        control.cut_at = control.ops + rng.randint(1, 60)
        server.process.terminate()
        if wait_status(server, [0, CUT_STATUS]) == 0:
            return "after the stop"
        return where
    server.kill()  # leaves a WAL; the next start recovers it, and there the power goes
    control.cut_at = rng.randint(1, 30)
    again = start(server.binary, server.db, control, log)
    if again is not None:
        control.cut_at = control.ops + 1
        load_until(again, ledger, rng, lambda: wait_status(again, [CUT_STATUS]))
    return where


def check(server, ledger):
    """After the restart: the feed as far as it is new, and SQLite's own opinion."""
    resend_unknown(server, ledger)
    read_feed(server, ledger, ledger.last_seq)
    lost = [a for a in ledger.acked if ledger.seen.get(a) != ledger.sent[a]]
    invented = [a for a, what in ledger.seen.items() if ledger.sent.get(a) != what]
    connection = sqlite3.connect(f"file:{server.db}?mode=ro", uri=True)
    try:
        opinion = connection.execute("PRAGMA integrity_check").fetchall()
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.Error as error:
        opinion, broken = [(str(error),)], []
    connection.close()
    if lost or invented or ledger.duplicated or opinion != [("ok",)] or broken:
        raise Broken(f"{len(lost)} lost, {len(invented)} invented, {ledger.duplicated} duplicated, integrity_check {opinion[:1]}")


def one_file(binary, folder, rng, n_cuts, mutant, log):
    """n_cuts cuts of one database; returns (cuts by place, acknowledged labels)."""
    control = Control(Path(folder) / "control")
    control.track, control.cut_seed = 1, rng.randrange(1 << 62)
    ledger, places, db = Ledger(), {}, Path(folder) / "cut.db"
    server = None
    for cut_at in [rng.randint(1, 250) for _ in range(3)] + [0]:  # also while the database is made
        control.cut_at = cut_at
        server = start(binary, db, control, log)
        if cut_at > 0:
            if server is not None:
                server.kill()
            put_images(db)
    try:
        server.must("POST", "/v1/projects", {"name": "k", "classes": CLASSES, "feature_dim": 8})
        server.must("POST", "/v1/projects/k/instances", {"instances": [
            {"id": f"i{i}", "features": [rng.random() for _ in range(8)]} for i in range(N_INSTANCES)]})
        control.mutant = MUTANTS[mutant]  # from the next start on: a mutant that never began would prove little
        for n in range(n_cuts):
            where = one_cut(server, control, ledger, rng, log)
            control.cut_at = 0
            put_images(db)
            places[where] = places.get(where, 0) + 1
            server = start(binary, db, control, log)
            try:
                check(server, ledger)
            except (RuntimeError, OSError, http.client.HTTPException, KeyError) as error:
                raise Broken(f"after the restart: {error}") from error
            except Broken as error:
                raise Broken(f"cut {n + 1}, {where}: {error}") from error
    finally:
        if server is not None and server.process.poll() is None:
            server.kill()
    return places, len(ledger.acked)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--cuts", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--log")
    parser.add_argument("--mutant", action="store_true")
    arguments = parser.parse_args()
    campaign = Campaign(arguments.log, arguments.seed)
    mutant = "no-sync" if arguments.mutant else "none"
    print(f"power_cut: {arguments.cuts} cuts, mutant {mutant}, --seed {campaign.seed}", flush=True)
    n_files = -(-arguments.cuts // CUTS_PER_FILE)
    for number, rng in campaign.pieces(n_files):
        n_cuts = min(CUTS_PER_FILE, arguments.cuts - number * CUTS_PER_FILE)
        with tempfile.TemporaryDirectory(prefix="annotmix-cut-") as folder, open(Path(folder) / "log", "w+b") as log:
            try:
                places, acked = one_file(arguments.binary, folder, rng, n_cuts, mutant, log)
                campaign.finish(number, cuts=n_cuts, acked=acked, broken="", **places)
            except Broken as error:
                campaign.finish(number, cuts=n_cuts, acked=0, broken=str(error))
                print(f"  piece {number}: {error}", flush=True)
        if number % 4 == 3 or mutant != "none":
            print(f"  {campaign.total('cuts')} cuts, {campaign.total('acked')} acknowledged", flush=True)
    broken = [line["broken"] for line in campaign.lines if line["broken"]]
    if mutant != "none":
        return report([(f"without syncs the test fails, as it must: {broken[:1]}", bool(broken))])
    return report([
        (f"{campaign.total('cuts')} power cuts ({campaign.total('load')} under load, {campaign.total('start')} while starting, "
         f"{campaign.total('stop')} while stopping), {campaign.total('acked')} acknowledged labels: 0 lost, 0 invented, "
         f"0 duplicated, integrity_check content each time{'; broken: ' + str(broken[:3]) if broken else ''}", not broken)])


if __name__ == "__main__":
    sys.exit(main())
