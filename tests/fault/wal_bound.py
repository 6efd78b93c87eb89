#!/usr/bin/env python3
"""Many very slow readers of lists and exports beside a writer of bulks: the write-ahead log stays small (T17).

    wal_bound.py --binary build/annotmixd [--readers 100] [--labels 75000] [--rate 5000] [--seed N] [--mutant] [--figures]

Each reader takes 100 bytes a second of a stream (consensus, reliability, agreement) or of a long list, through a receive
buffer as small as the kernel allows, so that the server has to wait for it in the middle of its answer. Meanwhile bulks of
labels are posted, at most --rate a second. A read transaction that is open for as long as its client reads would keep
every checkpoint from starting the log anew. Held: FILE-wal is under 128 MiB whenever it is looked at, although half as
much again is written, and nothing but 2xx is answered to the writer. --mutant: the mistake itself, one read transaction
that stays open, must take the log beyond the bound. With --figures the rate is held as well.
"""
import argparse
import asyncio
import os
import random
import resource
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from pathlib import Path

from campaign import report
from server import Server

MIB = 1024 * 1024
WAL_BYTES = 128 * MIB
N_INSTANCES, N_ANNOTATORS, BULK = 20000, 300, 500
PATHS = ["/labels?limit=1000", "/consensus?format=ndjson", "/labels?after_seq=0&limit=1000", "/reliability?format=ndjson",
         "/consensus?format=csv", "/instances?limit=1000", "/agreement?format=csv"]


class Figures:
    def __init__(self):
        self.stop = threading.Event()
        self.wal, self.looks, self.bytes_read, self.answers, self.cut, self.refused = 0, 0, 0, 0, 0, 0
        self.statuses, self.wrong = {}, []


def look_at_wal(path, figures):
    while not figures.stop.wait(0.02):
        try:
            figures.wal = max(figures.wal, os.stat(path).st_size)
            figures.looks += 1
        except FileNotFoundError:
            pass


async def slow_reader(server, number, figures):
    """One answer after another, 100 bytes a second; a reader whose deadline is over comes back."""
    loop, turn = asyncio.get_running_loop(), number
    while not figures.stop.is_set():
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least there is
        client.setblocking(False)
        begun = False
        try:
            await loop.sock_connect(client, (server.host, server.port))
            head = f"GET /v1/projects/w{PATHS[turn % len(PATHS)]} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            await loop.sock_sendall(client, head.encode())
            while not figures.stop.is_set():
                data = await asyncio.wait_for(loop.sock_recv(client, 100), 60)
                if not data:
                    break
                if not begun:
                    begun = True
                    status = data.split(b" ", 2)[1].decode()
                    figures.statuses[status] = figures.statuses.get(status, 0) + 1
                    if status not in ("200", "503"):
                        figures.wrong.append(f"{PATHS[turn % len(PATHS)]}: {data!r}")
                    figures.answers += status == "200"
                figures.bytes_read += len(data)
                await asyncio.sleep(1)
        except (ConnectionError, asyncio.TimeoutError):
            figures.cut += 1
            await asyncio.sleep(0.2)
        finally:
            client.close()
        turn += 1


def write(server, options, figures):
    rng, connection = random.Random(options.seed), server.connection()
    begun, sent = time.monotonic(), 0
    try:
        while sent < options.labels:
            lines = "".join(f'{{"instance":"i{rng.randrange(N_INSTANCES)}","annotator":"a{rng.randrange(N_ANNOTATORS)}",'
                            f'"class":"{rng.choice("xyz")}"}}\n' for _ in range(BULK))
            status, answer = server.call("POST", "/v1/projects/w/labels", lines, "application/x-ndjson", connection=connection)
            if status not in (200, 201) or answer["rejected"] or answer["accepted"] + answer["unchanged"] < BULK:
                figures.wrong.append(f"a bulk: {status} {str(answer)[:200]}")
                break
            sent += BULK
            early = begun + sent / options.rate - time.monotonic()
            if early > 0:
                time.sleep(early)
    except Exception as error:  # whatever it is, the readers must be told to stop
        figures.wrong.append(f"the writer: {error!r}")
    figures.rate = sent / (time.monotonic() - begun)
    figures.stop.set()


async def read_all(server, options, figures):
    readers = [asyncio.create_task(slow_reader(server, i, figures)) for i in range(options.readers)]
    while figures.answers < options.readers * 0.8 and not all(r.done() for r in readers):
        await asyncio.sleep(0.05)  # the writer begins when most are in the middle of an answer
        if figures.stop.is_set():
            break
    writer = threading.Thread(target=write, args=(server, options, figures))
    writer.start()
    await asyncio.gather(*readers)
    writer.join()


def written(server):
    with open(f"/proc/{server.process.pid}/io", encoding="ascii") as io:
        return int(next(line for line in io if line.startswith("wchar")).split()[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="build/annotmixd")
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--labels", type=int, default=75000)
    parser.add_argument("--rate", type=float, default=5000, help="labels a second, at most")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--mutant", action="store_true")
    parser.add_argument("--figures", action="store_true")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.readers} readers, {options.labels} labels", flush=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = options.readers + 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)), hard))
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="annotmix-wal-") as folder:
        db = Path(folder) / "a.db"
        server = Server(options.binary, db, "--trainers", "1", "--connections", str(options.readers + 100), "--log-level", "warn",
                        log=sys.stderr)
        server.must("POST", "/v1/projects", {"name": "w", "classes": ["x", "y", "z"]})
        rng = random.Random(f"{options.seed} before")
        for first in range(0, N_INSTANCES, 5000):  # so that the first answers are long
            server.must("POST", "/v1/projects/w/labels", "".join(
                f'{{"instance":"i{i}","annotator":"a{rng.randrange(N_ANNOTATORS)}","class":"x"}}\n'
                for i in range(first, first + 5000)), media_type="application/x-ndjson")
        before, cpu = written(server), server.cpu_seconds()
        if options.mutant:
            pinned = sqlite3.connect(f"file:{db}?mode=ro", uri=True)
            pinned.execute("BEGIN")
            pinned.execute("SELECT count(*) FROM labels").fetchone()
        watch = threading.Thread(target=look_at_wal, args=(f"{db}-wal", figures))
        watch.start()
        asyncio.run(read_all(server, options, figures))
        watch.join()
        if options.mutant:
            pinned.close()
        through, cpu = written(server) - before, server.cpu_seconds() - cpu
        status, _ = server.stop()
        left = os.path.exists(f"{db}-wal")
    print(f"{figures.rate:.0f} labels/s; {figures.answers} answers begun, {figures.bytes_read // 1024} KiB of them taken, "
          f"{figures.cut} cut; statuses {figures.statuses}; {through // MIB} MiB written, "
          f"log at most {figures.wal / MIB:.1f} MiB, {cpu:.1f} s of CPU")
    for text in figures.wrong[:5]:
        print("  ", text)
    if options.mutant:
        return report([(f"a read transaction that stays open is noticed: the log had {figures.wal / MIB:.1f} MiB",
                        figures.wal >= WAL_BYTES)])
    checks = [
        (f"the write-ahead log had at most {figures.wal / MIB:.1f} MiB in {figures.looks} looks, wanted < {WAL_BYTES // MIB}",
         0 < figures.wal < WAL_BYTES),
        (f"{through // MIB} MiB were written, half as much again", through > 1.5 * WAL_BYTES),
        ("no wrong answer", not figures.wrong),
        (f"{figures.answers} answers were under way", figures.answers >= 0.8 * options.readers),
        ("a clean end without a log left over", status == 0 and not left),
    ]
    if options.figures:
        checks.append((f"{figures.rate:.0f} labels/s, wanted >= {0.98 * options.rate:.0f}", figures.rate >= 0.98 * options.rate))
    return report(checks)


if __name__ == "__main__":
    sys.exit(main())
