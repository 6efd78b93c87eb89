#!/usr/bin/env python3
"""Backups under load: what was acknowledged before a backup was asked for is in it, and it serves.

    backup_load.py --binary build/annotmixd [--backups 5] [--pieces 1] [--rate 5000] [--instances 2000] [--seed N] [--log FILE] [--figures]

Clients post NDJSON bodies of 50 labels over kept connections at the wanted rate (or what the machine gives), one more posts
single labels and takes the time, while `annotmixd backup` is called again and again and the server makes its own backups.
Each copy must hold every label acknowledged before it was begun, no label that was never sent, the change feed without a
gap, and pass integrity_check; the last one is restored and served. With --figures the rate must be reached, and the p99 of
single labels while a backup ran be below twice that of the rest of the time. --log FILE: goes on where it was stopped.
"""
import argparse
import datetime
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

from campaign import Campaign, report
from server import Server

CLASSES = ["red", "green", "blue"]


BULK = 50  # labels of a body
SINGLES = 50  # a second, from the client that takes the time


def names_of(client, k, n_instances):
    """The k-th label of a client: (instance, annotator, class); every pair once."""
    return f"i{k % n_instances}", f"c{client}-{k // n_instances}", CLASSES[(k * 7 + client) % 3]


def post(sock, body, media):
    """One POST over a kept connection; (status, answer). Written by hand: http.client costs more than the server."""
    sock.sendall(b"POST /v1/projects/k/labels HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
                 % (media, len(body), body))
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
    return int(head.split()[1]), rest


def client(port, number, n_instances, bulk, per_second, stop, results):
    """Sends until told to stop; [(first k, labels, sent, answered)] of what was acknowledged. Times are of the monotonic
    clock, the same in every process."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    acked, begin = [], time.monotonic()
    k = 0
    while not stop.is_set():
        ahead = begin + k / per_second - time.monotonic()
        if ahead > 0.001:
            time.sleep(ahead)  # pace, not synchronisation
        lines = []
        for j in range(k, k + bulk):
            instance, annotator, given = names_of(number, j, n_instances)
            lines.append(f'{{"instance":"{instance}","annotator":"{annotator}","class":"{given}"}}')
        sent = time.monotonic()
        status, answer = post(sock, "\n".join(lines).encode(), b"application/x-ndjson" if bulk > 1 else b"application/json")
        if status == 201 and (bulk == 1 or json.loads(answer)["accepted"] == bulk):
            acked.append((k, bulk, sent, time.monotonic()))
        elif status != 503:
            print(f"status {status}: {answer[:200]}", flush=True)
            acked = None
            break
        k += bulk
    sock.close()
    results.put((number, k, acked))


def content(path, sent, n_instances):
    """What a copy holds: {client: one byte for each label sent, 1 + its class or 0}, what was never sent, whether the file
    is sound, whether its feed has no gap."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    sound = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)] and not db.execute("PRAGMA foreign_key_check").fetchall()
    count, first, last = db.execute("SELECT count(*), coalesce(min(seq), 1), coalesce(max(seq), 0) FROM labels").fetchone()
    if count > 0 and [name for _, name in db.execute("SELECT position, name FROM classes ORDER BY position")] != CLASSES:
        raise RuntimeError("other classes")
    instances = {i: int(name[1:]) for i, name in db.execute("SELECT id, name FROM instances")}
    annotators = {i: [int(n) for n in name[1:].split("-")] for i, name in db.execute("SELECT id, name FROM annotators")}
    held, strange = {number: bytearray(n) for number, n in sent.items()}, 0
    for instance, annotator, given in db.execute("SELECT instance_id, annotator_id, class FROM labels"):
        number, turn = annotators[annotator]
        k = turn * n_instances + instances[instance]
        if k >= sent[number] or given != (k * 7 + number) % 3:
            strange += 1
        else:
            held[number][k] = 1 + given
    db.close()
    return held, strange, sound, (first, last) == (1, count)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1000 if values else float("nan")


def run(arguments, rng, folder, log):
    db, own = folder / "load.db", folder / "own"
    server = Server(arguments.binary, db, "--backup-dir", str(own), "--backup-every", arguments.every, "--backup-keep", "1000", log=log)
    server.must("POST", "/v1/projects", {"name": "k", "classes": CLASSES, "feature_dim": 0})
    for begin in range(0, arguments.instances, 1000):
        server.must("POST", "/v1/projects/k/instances", {"instances": [
            {"id": f"i{i}"} for i in range(begin, min(begin + 1000, arguments.instances))]})
    stop, results = multiprocessing.Event(), multiprocessing.Queue()
    kinds = [(n, BULK, arguments.rate / arguments.clients) for n in range(arguments.clients)] + [(arguments.clients, 1, SINGLES)]
    processes = [multiprocessing.Process(target=client, args=(server.port, n, arguments.instances, bulk, rate, stop, results))
                 for n, bulk, rate in kinds]
    for process in processes:
        process.start()
    calls = []
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
    if any(acked is None for _, _, acked in answers):
        server.kill()
        raise RuntimeError("a client was refused")
    seconds = time.monotonic() - min(a[0][2] for _, _, a in answers)
    end, _ = server.stop()
    return calls, answers, seconds, end


def judge(arguments, folder, calls, answers):
    """Figures of all copies."""
    sent = {n: k for n, k, _ in answers}
    right = {n: bytes(1 + (k * 7 + n) % 3 for k in range(count)) for n, count in sent.items()}
    copies = [(folder / f"copy{n}.db", begin) for n, (begin, _) in enumerate(calls)]
    own = [(path, 0) for path in sorted((folder / "own").glob("*.db"))]
    figures = {"copies": len(copies), "own": len(own), "lost": 0, "invented": 0, "unsound": 0, "gaps": 0}
    for path, begin in copies + own:
        held, strange, sound, whole = content(path, sent, arguments.instances)
        figures["unsound"] += not sound
        figures["gaps"] += not whole
        figures["invented"] += strange
        for number, _, acked in answers:
            figures["lost"] += sum(held[number][k:k + n] != right[number][k:k + n] for k, n, _, got in acked if got < begin)
    return figures


def restore(arguments, folder, answers, calls, log):
    """The last copy serves what it holds, and takes labels; 1 when all is well."""
    last, begin = folder / f"copy{len(calls) - 1}.db", calls[-1][0]
    shutil.copyfile(last, folder / "restored.db")
    db = sqlite3.connect(f"file:{last}?mode=ro", uri=True)
    held = db.execute("SELECT count(*) FROM labels").fetchone()[0]
    db.close()
    server = Server(arguments.binary, folder / "restored.db", log=log)
    counts = server.must("GET", "/v1/projects/k")["counts"]
    before = sum(n for _, _, acked in answers for _, n, _, got in acked if got < begin)
    server.must("POST", "/v1/projects/k/labels", {"instance": "i0", "annotator": "after", "class": "red"})
    end, _ = server.stop()
    return int(end == 0 and counts["labels"] == held >= before)


def times(folder, calls, answers):
    """Seconds of single labels while a backup ran (of either kind), and otherwise."""
    lines = [json.loads(line) for line in (folder / "log").read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    wall = time.time() - time.monotonic()
    busy = list(calls)
    for line in lines:
        if line.get("message", line.get("msg")) == "backup made":
            end = datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp() - wall
            busy.append((end - line["seconds"] - 0.01, end + 0.01))
    during, quiet = [], []
    for _, begin, got in [(n, begin, got) for _, _, acked in answers for _, n, begin, got in acked if n == 1]:
        (during if any(begin < b and got > a for a, b in busy) else quiet).append(got - begin)
    return during, quiet


def one_piece(arguments, rng):
    with tempfile.TemporaryDirectory(prefix="annotmix-backup-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        with open(folder / "log", "wb") as log:
            calls, answers, seconds, end = run(arguments, rng, folder, log)
            figures = judge(arguments, folder, calls, answers)
            figures["restored"] = restore(arguments, folder, answers, calls, log)
        during, quiet = times(folder, calls, answers)
    labels = sum(n for _, _, acked in answers for _, n, _, _ in acked)
    figures.update(ended=int(end == 0), labels=labels, seconds=round(seconds, 1), during=round(percentile(during, 0.99), 2),
                   quiet=round(percentile(quiet, 0.99), 2))
    print(f"  {labels} labels acknowledged in {seconds:.1f} s: {labels / seconds:.0f} a second; {figures['copies']} backups of "
          f"{min(b - a for a, b in calls):.2f} to {max(b - a for a, b in calls):.2f} s, {figures['own']} of the server")
    print(f"  label p50/p99 in ms: {percentile(during, 0.5):.2f}/{percentile(during, 0.99):.2f} while a backup ran (n = "
          f"{len(during)}), {percentile(quiet, 0.5):.2f}/{percentile(quiet, 0.99):.2f} otherwise (n = {len(quiet)})", flush=True)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--backups", type=int, default=5, help="of a piece")
    parser.add_argument("--pieces", type=int, default=1, help="each with a database of its own")
    parser.add_argument("--pause", type=float, default=1.0, help="stretches the time between two backups")
    parser.add_argument("--every", default="1s", help="of the server's own backups")
    parser.add_argument("--rate", type=float, default=5000)
    parser.add_argument("--instances", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--log")
    parser.add_argument("--figures", action="store_true")
    arguments = parser.parse_args()
    campaign = Campaign(arguments.log, arguments.seed)
    print(f"backup_load: {arguments.pieces} times {arguments.backups} backups, {arguments.rate:.0f} labels a second wanted, --seed "
          f"{campaign.seed}", flush=True)
    for number, rng in campaign.pieces(arguments.pieces):
        campaign.finish(number, **one_piece(arguments, rng))
    total = campaign.total
    rate = total("labels") / total("seconds")
    ratio = max(line["during"] / line["quiet"] for line in campaign.lines)
    checks = [
        (f"{total('copies')} backups: {total('lost')} requests acknowledged before the call are not whole in them, of "
         f"{total('labels')} labels", total("lost") == 0 and total("copies") > 0),
        (f"{total('invented')} labels invented", total("invented") == 0),
        (f"{total('unsound')} of {total('copies') + total('own')} copies are not sound ({total('own')} of them the server's own)",
         total("unsound") == 0 and total("own") > 0),
        (f"{total('gaps')} copies have a gap in the change feed", total("gaps") == 0),
        ("the last copy is served as it is and takes labels", total("restored", min) == 1),
        ("SIGTERM ends the server with status 0", total("ended", min) == 1)]
    if arguments.figures:
        checks += [(f"{rate:.0f} labels a second, wanted {arguments.rate:.0f}", rate >= 0.98 * arguments.rate),
                   (f"label p99 while a backup ran: {ratio:.2f} times that of the rest, wanted < 2", ratio < 2)]
    return report(checks)


if __name__ == "__main__":
    sys.exit(main())
