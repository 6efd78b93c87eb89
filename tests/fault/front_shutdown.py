#!/usr/bin/env python3
"""SIGTERM under load (T13): event streams, uploads in the middle of their bodies, a training, writers of single labels.

    front_shutdown.py --binary build/annotmixd [--streams 100] [--uploads 50] [--writers 4] [--rounds 1] [--seconds 3]

After the signal: exit status 0 within ten seconds; every answer that began is whole, except an event stream, which may end
between two events; no sanitizer report; after a new start everything acknowledged is there and nothing that was never sent.
"""
import argparse
import asyncio
import json
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "http"))
from campaign import report  # noqa: E402
from raw_requests import split_answers  # noqa: E402
from server import Server  # noqa: E402

REPORT = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:")
EXIT_SECONDS = 10.0
N_INSTANCES = 200


class Ledger:
    def __init__(self):
        self.sent, self.acked, self.torn, self.broken_streams, self.refused = set(), set(), [], [], 0
        self.uploads_answered = self.streams_ended = 0
        self.n = 0

    def label(self, rng):
        self.n += 1
        name = f"a{self.n}"
        self.sent.add(name)
        return {"instance": f"i{rng.randrange(N_INSTANCES)}", "annotator": name, "class": rng.choice(["x", "y"])}


def head(method, path, port, more=""):
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}\r\n".encode()


async def read_all(reader):
    data = b""
    try:
        while piece := await reader.read(65536):
            data += piece
    except OSError:
        pass
    return data


def whole_answers(data, ledger, what):
    """The answers in the bytes; anything else but whole answers is torn."""
    try:
        return split_answers(data)
    except (ValueError, IndexError):
        ledger.torn.append(f"{what}: {data[-300:]!r}")
        return []


async def stream(port, run, ledger, ready):
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head("GET", f"/v1/projects/p/training-runs/{run}/events", port, "Accept: text/event-stream\r\n"))
        first = await reader.readuntil(b"\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError):
        ready.append("stream refused")
        return
    ready.append("stream")
    if b" 200 " not in first.split(b"\r\n")[0]:
        ledger.broken_streams.append(first[:100])
    data = await read_all(reader)
    ledger.streams_ended += 1
    events, at = b"", 0
    while at < len(data):  # chunked
        size, _, _ = data[at:].partition(b"\r\n")
        n = int(size or b"0", 16)
        events += data[at + len(size) + 2 : at + len(size) + 2 + n]
        at += len(size) + n + 4
    if events and not events.endswith(b"\n\n"):
        ledger.broken_streams.append(events[-100:])
    writer.close()


async def upload(port, ledger, rng, ready):
    """Bulks in NDJSON, one after the other, a line at a time."""
    first = True
    while True:
        data, names = b"", []
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        answer = asyncio.create_task(read_all(reader))
        try:
            writer.write(head("POST", "/v1/projects/p/labels", port, "Content-Type: application/x-ndjson\r\n"
                              "Connection: close\r\nTransfer-Encoding: chunked\r\n"))
            for _ in range(rng.randrange(20, 60)):
                row = ledger.label(rng)
                names.append(row["annotator"])
                line = json.dumps(row).encode() + b"\n"
                writer.write(b"%x\r\n%s\r\n" % (len(line), line))
                await writer.drain()
                if first:
                    ready.append("upload")
                    first = False
                await asyncio.sleep(0.02)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        except OSError:
            pass  # cut; an answer may be there all the same
        data = await answer
        writer.close()
        if first:
            ready.append("upload refused")
            first = False
        answers = whole_answers(data, ledger, "upload")
        if answers and answers[0][0] in (200, 201):
            told = json.loads(answers[0][2])
            ledger.uploads_answered += 1
            if told["accepted"] + told.get("unchanged", 0) == len(names):
                ledger.acked.update(names)
        if not answers:
            return


async def writer_of_labels(port, ledger, rng):
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        closing = False
        while not closing:
            row = ledger.label(rng)
            body = json.dumps(row).encode()
            data = b""
            try:
                writer.write(head("POST", "/v1/projects/p/labels", port, "Content-Type: application/json\r\n"
                                  f"Content-Length: {len(body)}\r\n") + body)
                data = await reader.readuntil(b"\r\n\r\n")
                n = int(re.search(rb"(?i)content-length: (\d+)", data).group(1))
                data += await reader.readexactly(n)
            except asyncio.IncompleteReadError as error:
                data += error.partial
                closing = True
            except OSError:
                closing = True
            answers = whole_answers(data, ledger, "label")
            if answers and answers[0][0] in (200, 201):
                ledger.acked.add(row["annotator"])
            elif answers:
                ledger.refused += 1
            closing = closing or not answers or b"onnection: close" in data
        writer.close()


async def load(server, options, rng, run, ledger):
    """Everything at once, then the signal; returns the seconds until the program had ended, and its status."""
    ready, port = [], server.port
    tasks = [asyncio.create_task(stream(port, run, ledger, ready)) for _ in range(options.streams)]
    tasks += [asyncio.create_task(upload(port, ledger, random.Random(rng.random()), ready)) for _ in range(options.uploads)]
    while len(ready) < options.streams + options.uploads:
        await asyncio.sleep(0.02)
    tasks += [asyncio.create_task(writer_of_labels(port, ledger, random.Random(rng.random()))) for _ in range(options.writers)]
    await asyncio.sleep(options.seconds)
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    status = None
    while status is None and time.monotonic() < begun + 60:
        status = server.process.poll()
        await asyncio.sleep(0.01)
    took = time.monotonic() - begun
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    return status, took


def stored(server):
    """All annotators who have a label."""
    names, cursor = set(), ""
    while True:
        page = server.must("GET", f"/v1/projects/p/labels?limit=1000{cursor}")
        names.update(row["annotator"] for row in page["items"])
        if not page.get("next_cursor"):
            return names
        cursor = "&cursor=" + page["next_cursor"]


def one_round(options, rng, folder):
    ledger = Ledger()
    with open(folder / "log", "ab") as log:
        server = Server(options.binary, folder / "a.db", "--connections", str(options.streams + options.uploads + 100), log=log)
        server.must("POST", "/v1/projects", {"name": "p", "classes": ["x", "y"], "feature_dim": 4})
        rows = [{"id": f"i{i}", "features": [rng.gauss(0, 1) for _ in range(4)],
                 "labels": [{"annotator": f"old{a}", "class": rng.choice(["x", "y"])} for a in range(5)]}
                for i in range(N_INSTANCES)]
        server.must("POST", "/v1/projects/p/instances", {"instances": rows})
        run = server.must("POST", "/v1/projects/p/training-runs", {"settings": {"epochs": 10000}})["id"]
        while server.must("GET", f"/v1/projects/p/training-runs/{run}")["state"] == "queued":
            time.sleep(0.02)
        status, took = asyncio.run(load(server, options, rng, run, ledger))
        if status is None:
            server.kill()
        server = Server(options.binary, folder / "a.db", log=log)
        there = stored(server)
        state = server.must("GET", f"/v1/projects/p/training-runs/{run}")
        second, _ = server.stop()
    text = (folder / "log").read_text(encoding="utf-8", errors="replace")
    there -= {f"old{a}" for a in range(5)}
    print(f"{options.streams} streams ({ledger.streams_ended} ended), {options.uploads} uploads ({ledger.uploads_answered} "
          f"bodies answered), {len(ledger.acked)} labels acknowledged of {len(ledger.sent)} sent, {ledger.refused} refused; "
          f"ended in {took:.1f} s; the run is {state['state']}, attempt {state.get('attempt')}")
    for torn in ledger.torn[:5] + ledger.broken_streams[:5]:
        print("  ", torn)
    return [
        (f"exit status {status}, wanted 0", status == 0 and second == 0),
        (f"ended in {took:.1f} s, wanted < {EXIT_SECONDS:.0f}", took < EXIT_SECONDS),
        (f"{len(ledger.acked - there)} acknowledged labels lost", not ledger.acked - there),
        (f"{len(there - ledger.sent)} labels invented", not there - ledger.sent),
        (f"{len(ledger.torn)} answers torn", not ledger.torn),
        (f"{len(ledger.broken_streams)} of {ledger.streams_ended} event streams cut inside an event",
         not ledger.broken_streams and ledger.streams_ended == options.streams),
        ("no sanitizer report", not REPORT.search(text)),
        ("there was load", len(ledger.acked) > 10 and ledger.uploads_answered > 0 and state["state"] in ("queued", "running", "succeeded")),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="build/annotmixd")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--uploads", type=int, default=50)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    checks = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="annotmix-t13-") as folder:
            checks += one_round(options, random.Random(f"{options.seed} {number}"), Path(folder))
    return report(checks)


if __name__ == "__main__":
    sys.exit(main())
