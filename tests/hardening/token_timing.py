#!/usr/bin/env python3
"""Does the time of a refusal tell anything about a token? A measurement, no gate: timings need a quiet machine.

    token_timing.py --binary build/annotmixd [--samples 10000] [--seed N]

A server with one token is asked, over one kept connection and in random order, with three kinds of wrong token: all but the last
character right, the first half right, nothing right. Printed are the median time of each kind and Welch's t between the
kinds after the slowest tenth of each has been cut off (that is the scheduler); |t| above 4.5 is what the literature on
timing leaks takes for a leak. Then the flood of reliability row 4: the p99 of a client with the right token alone and
beside two clients that send wrong ones as fast as they can.
"""
import argparse
import http.client
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fault"))
from server import Server  # noqa: E402

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
LEAK_T = 4.5


def other(character, rng):
    return rng.choice(LETTERS.replace(character, ""))


def wrong_tokens(token, rng):
    """The kinds, each equally long."""
    head, secret = token[:4], token[4:]
    return {
        "all but the last right": lambda: token[:-1] + other(token[-1], rng),
        "the first half right": lambda: head + secret[:21] + "".join(other(c, rng) for c in secret[21:]),
        "nothing right": lambda: head + "".join(other(c, rng) for c in secret),
    }


def ask(connection, token, wanted):
    begun = time.perf_counter_ns()
    connection.request("GET", "/v1/methods?limit=1", headers={"Authorization": "Bearer " + token})
    answer = connection.getresponse()
    answer.read()
    took = time.perf_counter_ns() - begun
    if answer.status != wanted:
        raise SystemExit(f"status {answer.status}, not {wanted}")
    return took


def trimmed(times):
    return sorted(times)[: len(times) * 9 // 10]


def welch(a, b):
    return (statistics.fmean(a) - statistics.fmean(b)) / (statistics.variance(a) / len(a) + statistics.variance(b) / len(b)) ** 0.5


def timing(server, token, samples, rng):
    kinds = wrong_tokens(token, rng)
    order = [name for name in kinds for _ in range(samples)]
    rng.shuffle(order)
    times, connection = {name: [] for name in kinds}, server.connection()
    for _ in range(500):
        ask(connection, kinds["nothing right"](), 401)
    for name in order:
        wrong = kinds[name]()
        times[name].append(ask(connection, wrong, 401))
    kept = {name: trimmed(values) for name, values in times.items()}
    for name, values in kept.items():
        print(f"{name}: median {statistics.median(values) / 1000:.1f} us of {samples}")
    names = list(kinds)
    worst = max((abs(welch(kept[a], kept[b])), a, b) for i, a in enumerate(names) for b in names[i + 1:])
    print(f"largest |t| {worst[0]:.2f} ({worst[1]}, {worst[2]}); {'no leak seen' if worst[0] < LEAK_T else 'LOOK AT THIS'}")


def p99_us(server, token, n):
    connection = server.connection()
    return statistics.quantiles([ask(connection, token, 200) for _ in range(n)], n=100)[98] / 1000


def flood(server, token, samples, rng):
    stop, sent = threading.Event(), []

    def enemy(seed):
        make, connection, n = wrong_tokens(token, random.Random(seed))["nothing right"], server.connection(), 0
        while not stop.is_set() and n < 100_000:
            ask(connection, make(), 401)
            n += 1
        sent.append(n)

    alone = p99_us(server, token, samples)
    threads = [threading.Thread(target=enemy, args=(rng.random(),)) for _ in range(2)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    beside = p99_us(server, token, samples)
    stop.set()
    for thread in threads:
        thread.join()
    rate = sum(sent) / (time.monotonic() - begun)
    print(f"right token, p99: {alone:.0f} us alone, {beside:.0f} us beside {rate:.0f} wrong tokens a second (one Python process sends both)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="annotmix-timing-") as folder:
        db = Path(folder) / "t.db"
        server = Server(arguments.binary, db, "--auth", "token")
        try:
            made = subprocess.run([arguments.binary, "token", "create", "--db", str(db), "--name", "t", "--scope", "read"],
                                  capture_output=True, text=True, check=True)
            token = made.stdout.split()[-1]
            timing(server, token, arguments.samples, rng)
            flood(server, token, arguments.samples // 5, rng)
        except http.client.HTTPException as error:
            raise SystemExit(f"no answer: {error!r}") from error
        finally:
            server.kill()


if __name__ == "__main__":
    sys.exit(main())
