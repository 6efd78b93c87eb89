"""Benchmark parts of taking in: labels in bulk, a body of 1 GB. run.py has the harness."""
import json
import threading


def part_bulk(bench):
    """labels as NDJSON, a million a body, all new: instance by instance as exports come, then annotator by annotator"""
    per, count = 100, 1_000_000
    orders = {"by instance": lambda n: (n // per, n % per), "by annotator": lambda n: (n % (count // per), n // (count // per))}
    for order, place in orders.items():
        server = bench.server("bulk " + order)
        server.must("POST", "/v1/projects", {"name": "b", "classes": [f"c{k}" for k in range(bench.CLASSES)], "feature_dim": 0})
        bench.upload(server, "/v1/projects/b/instances", bench.lines("instances", count // per, lambda n: f'{{"id":"i{n}"}}\n'))
        for r in range(bench.rounds):
            path = bench.lines("labels", count, lambda n, r=r, place=place:
                              '{"instance":"i%d","annotator":"r%d-%d","class":"c%d"}\n' % (place(n)[0], r, place(n)[1], n % bench.CLASSES))
            before = server.cpu_seconds()
            answer, seconds = bench.upload(server, "/v1/projects/b/labels", path)
            bench.add(f"NDJSON labels {order}: server CPU", "us", (server.cpu_seconds() - before) / count * 1e6)
            assert answer["accepted"] == count and answer["created"] == count, answer
            bench.add(f"NDJSON labels {order}", "1/s", count / seconds, ">= 150000" if order == "by instance" else "")
        bench.add(f"resident memory after 3 bodies of 1M labels {order}", "MiB", server.memory_kib() / 1024)
        server.stop()


def part_body(bench):
    """one NDJSON body of 1 GB of instances; how far resident memory moves"""
    server = bench.server("body")
    server.must("POST", "/v1/projects", {"name": "b", "classes": ["x", "y"], "feature_dim": bench.FEATURES})
    row = json.dumps(bench.features())
    total = 1_000_000_000
    peak, done = [0], threading.Event()

    def pieces():
        n = sent = 0
        while sent < total:
            piece = "".join(f'{{"id":"g{n + i}","features":{row}}}\n' for i in range(500)).encode()
            n += 500
            sent += len(piece)
            yield piece

    def watch():
        while not done.wait(0.05):
            peak[0] = max(peak[0], server.memory_kib())

    # A small body first, so that what any body needs (statements, buffers, page cache) is not counted as growth.
    bench.upload(server, "/v1/projects/b/instances", bench.lines("first", 5000, lambda n: f'{{"id":"w{n}","features":{row}}}\n'))
    before = server.memory_kib()
    watcher = threading.Thread(target=watch)
    watcher.start()
    answer, seconds = bench.upload(server, "/v1/projects/b/instances", pieces)
    done.set()
    watcher.join()
    bench.add("1 GB NDJSON body: resident memory moves by", "MiB", (peak[0] - before) / 1024, "< 64")
    bench.add("1 GB NDJSON body: rate", "MB/s", total / 1e6 / seconds)
    bench.add("1 GB NDJSON body: instances", "1/s", answer["accepted"] / seconds)
    server.stop()
