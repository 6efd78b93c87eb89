#!/usr/bin/env python3
"""Many slow clients beside a good one (T10), and more clients than connections beside the health listener (T11).

    front_slow.py --binary build/annotmixd [--slow 500] [--over 100] [--figures]

Slow clients send one byte a second: of their headers, of a body with a length, or of a chunked body. Each must be closed
when its deadline is over, a good client meanwhile hears no error, and the memory stays bounded. Then --over connections are
all taken and as many clients again stand in line: the health listener answers all the same, and when they are gone the
service goes on. With --figures the times of the release run are held as well: good client p99 < 50 ms, health < 100 ms.
"""
import argparse
import asyncio
import collections
import json
import multiprocessing
import resource
import select
import socket
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "http"))
from campaign import report  # noqa: E402
from server import Server  # noqa: E402

HEADER_SECONDS, BODY_SECONDS = 5, 4
PER_TURN = 25  # connections that are made, written to or read from before it is the others' turn
KINDS = {  # what is sent at once, the seconds until the cut
    "headers": (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", HEADER_SECONDS),
    "body": (b"POST /v1/projects HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50000\r\n\r\n",
             BODY_SECONDS),
    "chunked": (b"POST /v1/projects HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n", 4 * BODY_SECONDS),
    "stream": (b"POST /v1/projects/p/labels HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
               b"Transfer-Encoding: chunked\r\n\r\n", BODY_SECONDS),
}
READY = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def exchange(reader, writer):
    writer.write(READY)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(41)
    if not head.startswith(b"HTTP/1.1 200"):
        raise OSError(head[:60])


async def good(port, figures, stop):
    """Reads and writes, over a kept connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"instance": "i", "annotator": "a", "class": "x"}).encode()
    label = (b"POST /v1/projects/p/labels HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
             b"Content-Length: %d\r\n\r\n" % len(body)) + body
    turn = 0
    while not stop.is_set():
        begun = time.monotonic()
        try:
            if turn % 4:
                await exchange(reader, writer)
            else:
                writer.write(label)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                if head.split(b" ")[1] not in (b"200", b"201"):
                    raise OSError(head[:60])
        except (OSError, asyncio.IncompleteReadError) as error:
            figures["errors"].append(f"good: {error!r}")
            return
        figures["ms"].append((time.monotonic() - begun) * 1000)
        turn += 1
        await asyncio.sleep(0.01)
    writer.close()


def good_process(port, stop, results):
    """The good client by itself: what the slow ones cost the tool must not be taken for what they cost the service."""
    figures = {"ms": [], "errors": []}
    asyncio.run(good(port, figures, stop))
    results.put(figures)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


class Slow:
    """A connection that sends one byte a second until the server ends it."""

    def __init__(self, port, kind):
        self.kind, self.made, self.begun = kind, time.monotonic(), None
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.sock.setblocking(False)
        # An answer shows that the connection was taken. (Not so for headers: those of a second request have the time
        # that a connection may be idle on top.)
        self.sock.send(KINDS[kind][0] if kind == "headers" else READY)
        if kind == "headers":
            self.begun = time.monotonic()

    def readable(self):
        """False when the server has ended it."""
        try:
            data = self.sock.recv(65536)
            if data and self.begun is None:
                self.sock.send(KINDS[self.kind][0])
                self.begun = time.monotonic()
            return data != b""
        except OSError:
            return False

    def send(self):
        try:
            self.sock.send(b"1\r\n{\r\n" if self.kind in ("chunked", "stream") else b"x")
        except OSError:
            pass  # epoll tells of the end


class Fleet:
    """All slow clients in one loop: what takes turns in pieces is never late by more than a piece, and `lag` tells by how
    much it was."""

    def __init__(self, server, n, figures):
        self.server, self.to_connect, self.figures = server, [list(KINDS)[i % len(KINDS)] for i in range(n)], figures
        self.epoll, self.clients, self.due = select.epoll(), {}, collections.deque()
        self.lag, self.memory, self.looked = 0.0, 0, 0.0

    def connect(self):
        for _ in range(min(PER_TURN, len(self.to_connect))):
            kind = self.to_connect.pop()
            try:
                client = Slow(self.server.port, kind)
            except OSError as error:
                self.figures["errors"].append(f"slow {kind}: {error!r}")
                continue
            self.clients[client.sock.fileno()] = client
            self.epoll.register(client.sock, select.EPOLLIN)
            self.due.append((time.monotonic() + 1, client))

    def end(self, client, left):
        begun = client.begun if client.begun is not None else float("-inf")  # ended before it began: infinitely late
        self.figures["late"].append((time.monotonic() - begun - KINDS[client.kind][1], client.kind))
        self.figures["left"] += left
        del self.clients[client.sock.fileno()]
        client.sock.close()

    def listen(self, seconds):
        for descriptor, _ in self.epoll.poll(seconds, PER_TURN):
            client = self.clients[descriptor]
            if not client.readable():
                self.end(client, False)

    def drip(self):
        now = time.monotonic()
        for _ in range(PER_TURN):
            if not self.due or self.due[0][0] > now:
                return
            at, client = self.due.popleft()
            if client.sock.fileno() < 0:
                continue
            self.lag = max(self.lag, now - at)
            if client.begun is not None:
                client.send()
            if now > (client.begun or client.made) + KINDS[client.kind][1] + 60:
                self.end(client, True)
                continue
            self.due.append((now + 1, client))

    def run(self):
        while self.to_connect or self.clients:
            self.connect()
            self.drip()
            self.listen(0.01)
            if time.monotonic() > self.looked + 0.5:
                self.looked = time.monotonic()
                self.memory = max(self.memory, self.server.memory_kib())


async def too_many(server, health_port, n, figures):
    """2n clients for n connections; n of them wait in the kernel's queue."""
    held, waits = [], []
    for _ in range(n):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await exchange(reader, writer)
        held.append((reader, writer))
    for _ in range(n):
        held.append(await asyncio.open_connection("127.0.0.1", server.port))
        held[-1][1].write(READY)
    for target in (b"/livez", b"/readyz", b"/metrics") * 10:
        begun = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", health_port)
        writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        data = await asyncio.wait_for(reader.read(), 30)
        waits.append((time.monotonic() - begun) * 1000)
        if not data.startswith(b"HTTP/1.1 200"):
            figures["errors"].append(f"health: {data[:60]!r}")
        writer.close()
    for _, writer in held:
        writer.close()
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await asyncio.wait_for(exchange(reader, writer), 30)
    writer.close()
    return waits, time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="build/annotmixd")
    parser.add_argument("--slow", type=int, default=500)
    parser.add_argument("--over", type=int, default=100)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--figures", action="store_true")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * options.slow + 3000
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    limits = ["--header-seconds", str(HEADER_SECONDS), "--body-seconds", str(BODY_SECONDS), "--log-level", "warn"]
    figures = {"late": [], "ms": [], "errors": [], "left": 0}
    with tempfile.TemporaryDirectory(prefix="annotmix-slow-") as folder:
        log_path = Path(folder) / "log"
        with open(log_path, "wb") as log:
            server = Server(options.binary, Path(folder) / "a.db", "--connections", str(options.slow + options.slow // 5 + 100),
                            *limits, log=log)
            server.must("POST", "/v1/projects", {"name": "p", "classes": ["x", "y"]})
            fork = multiprocessing.get_context("fork")
            stop, results = fork.Event(), fork.Queue()
            watch = fork.Process(target=good_process, args=(server.port, stop, results), daemon=True)
            watch.start()
            fleet = Fleet(server, options.slow, figures)
            fleet.run()
            memory = fleet.memory
            stop.set()
            heard = results.get(timeout=60)
            watch.join(60)
            figures["ms"] += heard["ms"]
            figures["errors"] += heard["errors"]
            status, _ = server.stop()
        latest = {kind: max((late for late, k in figures["late"] if k == kind), default=float("nan")) for kind in KINDS}
        with open(log_path, "wb") as log:
            server = Server(options.binary, Path(folder) / "b.db", "--connections", str(options.over), "--health-listen",
                            "127.0.0.1:0", "--log-level", "info", log=log)
            text = log_path.read_text(encoding="utf-8")
            line = next(json.loads(row) for row in text.splitlines() if "health listener" in row)
            waits, back = asyncio.run(too_many(server, int(line["address"].rsplit(":", 1)[1]), options.over, figures))
            status_over, _ = server.stop()
    if options.verbose:
        print("health, ms:", " ".join(f"{w:.1f}" for w in waits))
    p99, health = percentile(figures["ms"], 0.99), max(waits)
    print(f"{options.slow} slow clients: closed after their deadline by at most "
          + ", ".join(f"{kind} {late:.2f} s" for kind, late in latest.items())
          + f" (the clients' own turns came up to {fleet.lag:.2f} s late); good client: {len(figures['ms'])} requests, median "
          f"{percentile(figures['ms'], 0.5):.1f} ms, p99 {p99:.1f} ms; at most {memory // 1024} MiB resident")
    print(f"{2 * options.over} clients for {options.over} connections: health answers within {health:.0f} ms, service back "
          f"after {back:.2f} s")
    for error in figures["errors"][:5]:
        print("  ", error)
    slack = 2 if options.figures else 15
    checks = [
        (f"{len(figures['errors'])} errors", not figures["errors"] and len(figures["ms"]) > 50),
        (f"all {len(figures['late'])} slow clients closed within their deadline + {slack} s",
         len(figures["late"]) == options.slow and figures["left"] == 0 and max(latest.values()) <= slack),
        (f"{memory // 1024} MiB resident, wanted < 1024", memory < 1024 * 1024),
        ("clean ends", status == 0 and status_over == 0),
    ]
    if options.figures:
        checks += [(f"good client's p99 {p99:.1f} ms, wanted < 50", p99 < 50),
                   (f"health {health:.0f} ms, wanted < 100", health < 100), (f"back after {back:.1f} s, wanted < 5", back < 5)]
    return report(checks)


if __name__ == "__main__":
    sys.exit(main())
