#!/usr/bin/env python3
"""Backups under load: what was acknowledged before a backup was asked for is in it, and it serves.

    backup_load.py --binary build/annotmixd [--backups 5] [--rate 5000] [--instances 2000] [--clients 4] [--seed N]

Clients post single labels over kept connections at the wanted rate (or what the machine gives) while `annotmixd backup` is
called again and again and the server makes its own backups every second. Each copy must hold every label acknowledged before
it was begun, no label that was never sent, the change feed without a gap, and pass integrity_check; the last one is
restored and served. Prints the latencies of labels while a backup ran and while none ran; it does not judge them.
"""
import argparse
import json
import multiprocessing
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from campaign import report
from server import Server

CLASSES = ["red", "green", "blue"]


def names_of(client, k, n_instances):
    """The k-th label of a client: (instance, annotator, class); every pair once."""
    return f"i{k % n_instances}", f"c{client}-{k // n_instances}", CLASSES[(k * 7 + client) % 3]


def post(sock, body):
    """One POST over a kept connection; the status. Written by hand: http.client costs more than the server."""
    sock.sendall(b"POST /v1/projects/k/labels HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                 b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            raise ConnectionError("closed")
        data += piece
    head, rest = data.split(b"\r\n\r\n", 1)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(rest) < length:
        rest += sock.recv(65536)
    return int(head.split()[1])


def client(port, number, n_instances, per_second, stop, results):
    """Sends until told to stop; times are of the monotonic clock, the same in every process."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    acked, begin = [], time.monotonic()
    k = 0
    while not stop.is_set():
        ahead = begin + k / per_second - time.monotonic()
        if ahead > 0.001:
            time.sleep(ahead)  # pace, not synchronisation
        instance, annotator, given = names_of(number, k, n_instances)
        body = json.dumps({"instance": instance, "annotator": annotator, "class": given}).encode()
        sent = time.monotonic()
        status = post(sock, body)
        if status == 201:
            acked.append((k, sent, time.monotonic()))
        elif status != 503:
            raise RuntimeError(f"status {status}")
        k += 1
    sock.close()
    results.put((number, k, acked))


def content(path):
    """What a copy holds: {(instance, annotator): class}, whether it is sound, whether its feed has no gap."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    sound = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)] and not db.execute("PRAGMA foreign_key_check").fetchall()
    seqs = [row[0] for row in db.execute("SELECT seq FROM labels ORDER BY seq")]
    classes = dict(db.execute("SELECT position, name FROM classes"))
    rows = db.execute("SELECT i.name, a.name, l.class FROM labels l JOIN instances i ON i.id = l.instance_id"
                      " JOIN annotators a ON a.id = l.annotator_id").fetchall()
    db.close()
    return {(i, a): classes[c] for i, a, c in rows}, sound, seqs == list(range(1, len(seqs) + 1))


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1000 if values else float("nan")


def run(arguments, folder, log):
    db, own = folder / "load.db", folder / "own"
    server = Server(arguments.binary, db, "--backup-dir", str(own), "--backup-every", "1s", "--backup-keep", "1000", log=log)
    server.must("POST", "/v1/projects", {"name": "k", "classes": CLASSES, "feature_dim": 0})
    for begin in range(0, arguments.instances, 1000):
        server.must("POST", "/v1/projects/k/instances", {"instances": [
            {"id": f"i{i}"} for i in range(begin, min(begin + 1000, arguments.instances))]})
    stop, results = multiprocessing.Event(), multiprocessing.Queue()
    processes = [multiprocessing.Process(target=client, args=(server.port, n, arguments.instances,
                                                              arguments.rate / arguments.clients, stop, results))
                 for n in range(arguments.clients)]
    for process in processes:
        process.start()
    rng, calls = random.Random(arguments.seed), []
    for n in range(arguments.backups):
        time.sleep(rng.uniform(0.3, 1.2) * arguments.pause)  # the random moment itself
        begin = time.monotonic()
        subprocess.run([arguments.binary, "backup", str(folder / f"copy{n}.db"), "--db", str(db)], check=True,
                       stdout=subprocess.DEVNULL)
        calls.append((begin, time.monotonic()))
    stop.set()
    answers = [results.get() for _ in processes]
    for process in processes:
        process.join()
    seconds = time.monotonic() - min(a[0][1] for _, _, a in answers)
    end, _ = server.stop()
    return calls, answers, seconds, end


def judge(arguments, folder, calls, answers, checks):
    acked = {names_of(n, k, arguments.instances)[:2]: (got, names_of(n, k, arguments.instances)[2])
             for n, _, labels in answers for k, _, got in labels}
    sent = {names_of(n, k, arguments.instances)[:2]: names_of(n, k, arguments.instances)[2]
            for n, count, _ in answers for k in range(count)}
    lost = invented = unsound = gaps = 0
    copies = [(folder / f"copy{n}.db", begin) for n, (begin, _) in enumerate(calls)]
    own = sorted((folder / "own").glob("*.db"))
    for path, begin in copies + [(path, None) for path in own]:
        held, sound, whole = content(path)
        unsound += not sound
        gaps += not whole
        invented += sum(sent.get(pair) != given for pair, given in held.items())
        if begin is not None:
            lost += sum(got < begin and held.get(pair) != given for pair, (got, given) in acked.items())
    checks += [(f"{len(calls)} backups: {lost} labels acknowledged before the call are missing", lost == 0 and calls),
               (f"{invented} labels invented", invented == 0),
               (f"{unsound} of {len(copies) + len(own)} copies are not sound ({len(own)} of them the server's own)",
                unsound == 0 and own),
               (f"{gaps} copies have a gap in the change feed", gaps == 0)]
    return acked


def restore(arguments, folder, acked, calls, log, checks):
    last, begin = folder / f"copy{len(calls) - 1}.db", calls[-1][0]
    shutil.copyfile(last, folder / "restored.db")
    held, _, _ = content(last)
    server = Server(arguments.binary, folder / "restored.db", log=log)
    counts = server.must("GET", "/v1/projects/k")["counts"]
    before = sum(got < begin for got, _ in acked.values())
    server.must("POST", "/v1/projects/k/labels", {"instance": "i0", "annotator": "after", "class": "red"})
    server.stop()
    checks.append((f"restored: {counts['labels']} labels served, {before} were acknowledged before that backup",
                   counts["labels"] == len(held) >= before))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--backups", type=int, default=5)
    parser.add_argument("--pause", type=float, default=1.0, help="stretches the time between two backups")
    parser.add_argument("--rate", type=float, default=5000)
    parser.add_argument("--instances", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(10**9)
    print(f"backup_load: {arguments.backups} backups, {arguments.rate:.0f} labels a second wanted, --seed {arguments.seed}", flush=True)
    checks = []
    with tempfile.TemporaryDirectory(prefix="annotmix-backup-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        with open(folder / "log", "wb") as log:
            calls, answers, seconds, end = run(arguments, folder, log)
            acked = judge(arguments, folder, calls, answers, checks)
            restore(arguments, folder, acked, calls, log, checks)
        checks.append((f"SIGTERM ends the server with status {end}", end == 0))
        during, quiet = [], []
        lines = [json.loads(line) for line in (folder / "log").read_text(encoding="utf-8").splitlines() if line.startswith("{")]
        made = [line for line in lines if line.get("message", line.get("msg")) == "backup made"]
        for _, _, labels in answers:
            for _, begin, got in labels:
                (during if any(begin < b and got > a for a, b in calls) else quiet).append(got - begin)
        print(f"  {len(acked)} labels acknowledged in {seconds:.1f} s: {len(acked) / seconds:.0f} a second; "
              f"{len(made)} backups of the server")
        print(f"  label p50/p99 in ms: {percentile(during, 0.5):.2f}/{percentile(during, 0.99):.2f} while `annotmixd backup` ran "
              f"(n = {len(during)}), {percentile(quiet, 0.5):.2f}/{percentile(quiet, 0.99):.2f} otherwise (n = {len(quiet)})")
        print(f"  a call took {min(b - a for a, b in calls):.2f} to {max(b - a for a, b in calls):.2f} s")
    return report(checks)


if __name__ == "__main__":
    sys.exit(main())
