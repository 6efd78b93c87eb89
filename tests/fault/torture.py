#!/usr/bin/env python3
"""Every allocation fails once: nothing crashes, nothing leaks, the answer is 503 or the connection is closed, and the next
request is right.

    torture.py --binary build/default/fault/annotmixd-fault --torture build/default/fault/torture
               [--sample 20] [--only NAME] [--seed N] [--log FILE] [--mutant]

Scenarios: calls of the learner, the aggregation and the store, and commands (fault/torture/scenarios.c), one request of
every kind to a running server, and a training in it (here). Where files are read and written, and while the server starts,
every call of the system fails too ("calls ..."): a command that says it is done has done it, and leaves nothing half made.
Without --sample every k is tried, each twice: only the k-th allocation fails, and all from it on. A leak in the server shows as blocks that stay, more than the same requests leave without failures.

--log FILE: a campaign that was stopped goes on where it was. --mutant: the answer "out of memory" frees a request that is
still used; that must be noticed.
"""
import argparse
import errno
import http.client
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from campaign import Campaign, report
from control import MUTANTS, Control
from server import Server

NEVER = 1 << 62
LINE_SECONDS = 10
SLACK_BLOCKS = 12  # caches that fill up while requests go on
P = "/v1/projects/t"
NDJSON = "application/x-ndjson"
LABELS = "".join(f'{{"instance":"i{i}","annotator":"b{i % 3}","class":"x"}}\n' for i in range(6))

# name: method, path, body, media type. @ is a number that no other request has.
REQUESTS = {
    "service": ("GET", "/v1/", None, None),
    "health": ("GET", "/livez", None, None),
    "ready": ("GET", "/readyz", None, None),
    "metrics": ("GET", "/metrics", None, None),
    "openapi": ("GET", "/openapi.json", None, None),
    "dashboard": ("GET", "/", None, None),
    "methods": ("GET", "/v1/methods", None, None),
    "projects list": ("GET", "/v1/projects", None, None),
    "project": ("GET", P, None, None),
    "project make": ("POST", "/v1/projects", {"name": "n@", "classes": ["x", "y"], "feature_dim": 2}, None),
    "project change": ("PATCH", P, {"description": "text @"}, "application/merge-patch+json"),
    "label": ("POST", P + "/labels", {"instance": "i1", "annotator": "a@", "class": "y"}, None),
    "label with key": ("POST", P + "/labels", {"instance": "i2", "annotator": "k@", "class": "y"}, "key"),
    "labels bulk": ("POST", P + "/labels", LABELS, NDJSON),
    "labels bulk atomic": ("POST", P + "/labels?atomic=true", LABELS, NDJSON),
    "labels json": ("POST", P + "/labels", {"labels": [{"instance": "i3", "annotator": "c@", "class": "x"}]}, None),
    "labels csv": ("POST", P + "/labels", "instance,annotator,class\ni4,d1,x\ni5,d2,y\n", "text/csv"),
    "labels list": ("GET", P + "/labels?limit=20", None, None),
    "labels list csv": ("GET", P + "/labels?format=csv", None, None),
    "labels list ndjson": ("GET", P + "/labels?format=ndjson", None, None),
    "label of unknown class": ("POST", P + "/labels", {"instance": "i1", "annotator": "a", "class": "nope"}, None),
    "instances": ("POST", P + "/instances", {"instances": [{"id": "i6", "features": [1, 2]}]}, None),
    "instances ndjson": ("POST", P + "/instances", '{"id":"i7","features":[2,1],"metadata":{"a":1}}\n', NDJSON),
    "instances csv": ("POST", P + "/instances", "instance,f0,f1\ni8,1,2\n", "text/csv"),
    "instances list": ("GET", P + "/instances?limit=10", None, None),
    "instance": ("GET", P + "/instances/i1", None, None),
    "gold": ("POST", P + "/gold", {"gold": [{"instance": "i1", "class": "x"}]}, None),
    "gold list": ("GET", P + "/gold", None, None),
    "annotators": ("GET", P + "/annotators", None, None),
    "annotator": ("GET", P + "/annotators/a1", None, None),
    "consensus votes": ("GET", P + "/consensus?method=majority_vote", None, None),
    "consensus dawid_skene": ("GET", P + "/consensus?method=dawid_skene", None, None),
    "consensus of the model": ("GET", P + "/consensus", None, None),
    "reliability": ("GET", P + "/reliability", None, None),
    "agreement": ("GET", P + "/agreement", None, None),
    "training runs": ("GET", P + "/training-runs", None, None),
    "training run": ("GET", P + "/training-runs/1", None, None),
    "training run refused": ("POST", P + "/training-runs", {"method": "nope"}, None),
    "models": ("GET", P + "/models", None, None),
    "model": ("GET", P + "/models/1", None, None),
    "model file": ("GET", P + "/models/1/file", None, None),
    "predict": ("POST", P + "/predict", {"instances": [{"features": [1, 2]}, {"id": "i1"}]}, None),
    "predictions": ("GET", P + "/predictions", None, None),
    "token make": ("POST", "/v1/tokens", {"name": "n@", "scopes": ["read"]}, None),
    "tokens": ("GET", "/v1/tokens", None, None),
    "unknown route": ("GET", "/v1/nope", None, None),
    "not JSON": ("POST", P + "/labels", "{", "application/json"),
}


class Wrong(Exception):
    """What a failed allocation must never do."""


class Target:
    """The server under torture, with a project that has a bit of everything."""

    def __init__(self, binary, folder, mutant):
        self.control, self.number, self.text = Control(Path(folder) / "control"), 0, b""
        self.control.mutant = MUTANTS[mutant]
        self.log = open(Path(folder) / "log", "w+b")
        self.server = Server(binary, Path(folder) / "t.db", "--auth", "none", "--threads", "1", "--trainers", "1",
                             "--disk-reserve", "0", log=self.log, environment=self.control.environment)
        must = self.server.must
        must("POST", "/v1/projects", {"name": "t", "classes": ["x", "y"], "feature_dim": 2})
        must("POST", P + "/instances", {"instances": [{"id": f"i{i}", "features": [i % 5, i % 3]} for i in range(20)]})
        must("POST", P + "/labels", {"labels": [{"instance": f"i{i}", "annotator": f"a{j}", "class": "xy"[(i + j // 2) % 2]}
                                               for i in range(20) for j in range(3)]})
        must("POST", P + "/training-runs", {"settings": {"epochs": 2, "hidden": [4]}})
        while must("GET", P + "/training-runs/1")["state"] not in ("succeeded", "failed"):
            time.sleep(0.01)

    def send(self, request):
        """The status; 0 when there was no answer."""
        self.number += 1
        method, path, body, media = request
        headers = {"Idempotency-Key": f"key-{self.number}"} if media == "key" else {}
        if body is not None and not isinstance(body, str):
            body = json.dumps(body)
        body = body.replace("@", str(self.number)) if body else body
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=20)
        try:
            headers["Content-Type"] = media if media and media != "key" else "application/json"
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            self.text = answer.read()
            return answer.status
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, TimeoutError):
                raise Wrong("no answer for 20 s") from error
            return 0
        finally:
            connection.close()

    def settled(self, counter):
        """A counter of the control page once it does not move."""
        last, since = None, time.monotonic()
        while time.monotonic() < since + 0.05:
            if getattr(self.control, counter) != last:
                last, since = getattr(self.control, counter), time.monotonic()
            time.sleep(0.005)
        return last

    def check_alive(self, k):
        if self.server.process.poll() is not None:
            raise Wrong(f"k={k}: ended with status {self.server.process.poll()}")


def check_next(target, request, right, k):
    status = target.send(request)
    if status != right:
        raise Wrong(f"k={k}: the next request: {status}, not {right}: {target.text[:300]}")


def fail_each(target, request, rng, ks, right):
    """Every k, alone and from it on; how many blocks stay."""
    control, before = target.control, target.settled("live_blocks")
    for k in ks:
        for times in (1, 0):
            control.allocs, control.alloc_fired, control.alloc_times = 0, 0, times
            control.alloc_first = k
            status = target.send(request)
            control.alloc_first = 0
            target.check_alive(k)
            if status not in (right, 503, 0):
                raise Wrong(f"k={k} times={times}: status {status}, not {right}, 503 or none: {target.text[:200]}")
        if rng.random() < 0.2:
            check_next(target, request, right, k)
    target.check_alive("all")
    check_next(target, request, right, "all")
    return target.settled("live_blocks") - before


def torture_request(target, request, rng, sample):
    """(allocations, tried) or Wrong."""
    control = target.control
    for _ in range(4):
        right = target.send(request)
    if right in (0, 503) or right >= 500:
        raise Wrong(f"does not work at all: {right}")
    control.alloc_first, control.allocs = NEVER, 0
    target.send(request)
    total, control.alloc_first = control.allocs, 0
    ks = list(range(1, total + 1))
    if sample and sample < total:
        ks = rng.sample(ks, sample)
    before = target.settled("live_blocks")
    for _ in range(2 * len(ks)):
        target.send(request)
    plain = target.settled("live_blocks") - before
    most = max(plain, 0) * 1.3 + SLACK_BLOCKS
    left = fail_each(target, request, rng, ks, right)
    # What the server keeps for a while (a view of a model) may have gone before and come back since; a leak grows again.
    if left > most and (left := fail_each(target, request, rng, ks, right)) > most:
        raise Wrong(f"{left} blocks stay after {2 * len(ks)} failures, twice, {plain} after as many requests without")
    return total, 2 * len(ks)


TRAINING = ("POST", P + "/training-runs", {"settings": {"epochs": 2, "hidden": [4]}}, None)


def train(target, k=NEVER, times=1):
    """Starts a run, with a failure when k is given; its state in the end, or None when the request was refused."""
    control = target.control
    control.allocs, control.alloc_fired, control.alloc_times = 0, 0, times
    control.alloc_first = k
    status = target.send(TRAINING)
    text, total = target.text, target.settled("allocs")
    control.alloc_first = 0
    target.check_alive(k)
    if status not in (200, 201, 202):  # 200: a run of a request that had no answer is queued still
        if status not in (503, 0) or k == NEVER:
            raise Wrong(f"k={k} times={times}: status {status}: {text[:200]}")
        return None, total
    path, end = f"{P}/training-runs/{json.loads(text)['id']}", time.monotonic() + 30
    while True:
        row = target.server.must("GET", path + "?wait=5")
        if row["finished_at"]:
            return row["state"], total
        if time.monotonic() > end:
            raise Wrong(f"k={k} times={times}: the run is {row['state']} for ever")


def torture_training(target, rng, sample):
    """A run whose memory fails succeeds or fails and says so; the next one succeeds. (What a fit leaves, its own scenario
    counts: the server keeps models.)"""
    for _ in range(4):
        state, total = train(target)
    if state != "succeeded":
        raise Wrong(f"does not work at all: {state}")
    ks = rng.sample(range(1, total + 1), sample) if sample and sample < total else range(1, total + 1)
    for k in ks:
        for times in (1, 0):
            if train(target, k, times)[0] not in (None, "succeeded", "failed"):
                raise Wrong(f"k={k} times={times}: the run did not end")
        if rng.random() < 0.2 and train(target)[0] != "succeeded":
            raise Wrong(f"k={k}: the next run does not succeed")
    return total, 2 * len(ks)


def torture_call(program, name, rng, sample):
    words = [program, name.removeprefix("calls "), "--seed", str(rng.randrange(1 << 40))]
    words += ["--sample", str(sample)] if sample else []
    words += ["--what", "calls"] if name.startswith("calls ") else []
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise Wrong(f"no answer, status {done.returncode}: {done.stderr[-300:]}") from error
    if answer["wrong"]:
        raise Wrong(answer["wrong"])
    return answer["allocations"], answer["tried"]


def start_once(binary, folder, control, k):
    """Starts the server with one failure to come; it serves and ends in order, or says why not: no third way."""
    words = [binary, "serve", "--db", str(folder / "s.db"), "--listen", "127.0.0.1:0", "--auth", "none", "--threads", "1", "--trainers",
             "1", "--disk-reserve", "0", "--health-listen", "127.0.0.1:0", "--backup-dir", str(folder / "copies")]
    control.call_times, control.call_code, control.calls_made, control.call_first = 1, errno.EIO, 0, k
    with open(folder / "log", "w+b") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **control.environment})
        # The line that fails may be the very one that says the server is ready: then nobody can know.
        if not select.select([process.stdout], [], [], LINE_SECONDS)[0] and not control.call_fired:
            raise Wrong(f"k={k}: does not start")
        made, control.call_first = control.calls_made, 0
        process.send_signal(signal.SIGTERM)
        status = process.wait(30)
        process.stdout.close()
        log.seek(0)
        if status not in (0, 1, 75) or (status != 0 and b"annotmixd" not in log.read()):
            raise Wrong(f"k={k}: ended with status {status}")
        return made, status


def torture_start(binary, folder, rng, sample):
    """Every call of the system fails while the server starts."""
    folder = Path(folder)
    control = Control(folder / "control")
    total = start_once(binary, folder, control, NEVER)[0]
    ks = list(range(1, total + 1))
    if sample and sample < total:
        ks = sorted(rng.sample(ks, sample))
    for k in ks:
        start_once(binary, folder, control, k)
    if start_once(binary, folder, control, NEVER)[1] != 0:
        raise Wrong("does not start any more")
    return total, len(ks)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--torture", required=True)
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--only")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--log")
    parser.add_argument("--jobs", type=int, default=1, help="calls and commands at the same time; requests go on beside them")
    parser.add_argument("--mutant", action="store_true")
    arguments = parser.parse_args()
    campaign = Campaign(arguments.log, arguments.seed)
    calls = subprocess.run([arguments.torture, "--list"], capture_output=True, text=True, check=True).stdout.splitlines()
    calls += ["calls " + name for name in calls if name.startswith(("cmd ", "store "))]
    names = calls + ["calls start"] + ["request " + name for name in REQUESTS] + ["training"]
    names = [n for n in names if not arguments.only or arguments.only in n]
    mutant = "freed-request" if arguments.mutant else "none"
    print(f"torture: {len(names)} scenarios, --seed {campaign.seed}", flush=True)
    target, lock = None, threading.Lock()

    def note(name, torture, *words):
        """Tortures and writes down what came of it."""
        wrong, figures = "", (0, 0)
        try:
            figures = torture(*words)
        except Wrong as error:
            wrong = f"{name}: {error}"
            print("  " + wrong, flush=True)
        with lock:
            campaign.finish(name, allocations=figures[0], tried=figures[1], wrong=wrong)

    with tempfile.TemporaryDirectory(prefix="annotmix-torture-") as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = []
        for name, rng in list(campaign.named(names)):
            if name in calls:
                jobs.append(pool.submit(note, name, torture_call, arguments.torture, name, rng, arguments.sample))
                continue
            if name == "calls start":
                note(name, torture_start, arguments.binary, tempfile.mkdtemp(dir=folder), rng, arguments.sample)
                continue
            if target is None or target.server.process.poll() is not None:
                target = Target(arguments.binary, tempfile.mkdtemp(dir=folder), mutant)
            if name == "training":
                note(name, torture_training, target, rng, arguments.sample)
            else:
                note(name, torture_request, target, REQUESTS[name[len("request "):]], rng, arguments.sample)
        for job in jobs:
            job.result()
        end = target.server.stop()[0] if target and target.server.process.poll() is None else 0
    wrong = [line["wrong"] for line in campaign.lines if line["wrong"]]
    if arguments.mutant:
        return report([(f"a request that is freed too early is noticed: {wrong[:1]}", bool(wrong))])
    return report([
        (f"{len(campaign.lines)} scenarios, {campaign.total('tried')} failed allocations of {campaign.total('allocations')}: no "
         f"crash, no leak, right afterwards{': ' + str(len(wrong)) + ' wrong' if wrong else ''}", not wrong),
        (f"the server ends with status {end}", end == 0)])


if __name__ == "__main__":
    sys.exit(main())
