"""Benchmark parts of taking in: labels and instances in bulk, a body of 1 GB. run.py has the harness."""
import array
import json
import os
import subprocess
import threading
import time

LABELS = 1_000_000  # in a body
PER = 100           # labels of an instance
DIM = 384
NPY_ROWS, NDJSON_ROWS = 200_000, 100_000  # instances in a body


def post(bench, server, path, source, media_type):
    """Streams a file as one body with curl: (answer, seconds, seconds of server CPU)."""
    before = server.cpu_seconds()
    answer, seconds = bench.upload(server, path, source, media_type)
    return answer, seconds, server.cpu_seconds() - before


def bare(bench, command, rows, name):
    """Rows a second of bare INSERTs into the same tables, without HTTP, parsing, look-ups or counters."""
    out = json.loads(subprocess.run([bench.engine, command, str(rows)], check=True, text=True, capture_output=True).stdout)
    bench.add(f"bare SQLite inserts: CPU per {name}", "us", out["cpu_us"])
    return out["rows_per_second"]


def disk(bench, total=300_000_000):
    """MB/s of payload when all that is done is what a log and a database must write: each 2 MiB into a log that is used again
    and again, synced; each 16 MiB once more at the end of a file that grows, synced."""
    piece, pieces = os.urandom(2 << 20), 8
    log, data = (os.open(bench.folder / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC) for name in ("disk.log", "disk.data"))
    start, written = time.monotonic(), 0
    while written < total:
        for n in range(pieces):
            os.pwrite(log, piece, n * len(piece))
            os.fdatasync(log)
        for n in range(pieces):
            os.pwrite(data, piece, written + n * len(piece))
        os.fdatasync(data)
        written += pieces * len(piece)
    seconds = time.monotonic() - start
    for file, name in ((log, "disk.log"), (data, "disk.data")):
        os.close(file)
        (bench.folder / name).unlink()
    return written / 1e6 / seconds


def part_bulk(bench):
    """labels in bulk, a million a body, all new: CSV and NDJSON instance by instance as exports come, against bare SQLite
    inserts into the same tables; then NDJSON annotator by annotator"""
    by_instance, by_annotator = lambda n: (n // PER, n % PER), lambda n: (n % (LABELS // PER), n // (LABELS // PER))
    forms = {"CSV": ("text/csv", "task,worker,label\n", "i%d,r%d-%d,c%d\n", by_instance, ">= 250000"),
             "NDJSON": ("application/x-ndjson", "", '{"instance":"i%d","annotator":"r%d-%d","class":"c%d"}\n', by_instance, ">= 200000"),
             "NDJSON by annotator": ("application/x-ndjson", "", '{"instance":"i%d","annotator":"r%d-%d","class":"c%d"}\n',
                                     by_annotator, "")}
    for name, (media_type, head, row, place, target) in forms.items():
        server = bench.server("bulk " + name)
        server.must("POST", "/v1/projects", {"name": "b", "classes": [f"c{k}" for k in range(bench.CLASSES)], "feature_dim": 0})
        bench.upload(server, "/v1/projects/b/instances", bench.lines("instances", LABELS // PER, lambda n: f'{{"id":"i{n}"}}\n'))
        for r in range(bench.rounds):
            path = bench.lines("labels", LABELS, lambda n: (head if n == 0 else "") + row %
                               (place(n)[0], r, place(n)[1], n % bench.CLASSES))
            answer, seconds, cpu = post(bench, server, "/v1/projects/b/labels", path, media_type)
            assert answer["accepted"] == LABELS and answer["created"] == LABELS, answer
            bench.add(f"{name} labels: server CPU", "us", cpu / LABELS * 1e6)
            bench.add(f"{name} labels", "1/s", LABELS / seconds, target)
            if target:
                limit = bare(bench, "bare", LABELS, "label")
                bench.add(f"{name} labels: bare SQLite", "1/s", limit)
                bench.add(f"{name} labels: ratio to bare SQLite", "x", LABELS / seconds / limit, ">= 0.333")
        bench.add(f"resident memory after {bench.rounds} bodies of 1M labels, {name}", "MiB", server.memory_kib() / 1024)
        server.stop()


def npy(bench, rows, make, dim=DIM):
    """A matrix of rows x dim float32 as a .npy file."""
    path = bench.folder / "features.npy"
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    with open(path, "wb") as out:
        out.write(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
        for n in range(rows):
            out.write(make(n))
    return path


def rows_of(bench, count, dim=DIM):
    """count rows of dim numbers, as text and as float32."""
    rows = [[round(bench.rng.gauss(0, 1), 4) for _ in range(dim)] for _ in range(count)]
    return [json.dumps(row, separators=(",", ":")) for row in rows], [array.array("f", row).tobytes() for row in rows]


def part_instances(bench):
    """instances of 384 features in bulk, new ones: npy and NDJSON, bytes of body a second; npy against bare SQLite and against the
    disk alone, which takes every byte twice"""
    texts, binary = rows_of(bench, 97)
    server = bench.server("features")
    server.must("POST", "/v1/projects", {"name": "b", "classes": ["x", "y"], "feature_dim": DIM})
    for r in range(bench.rounds):
        path = npy(bench, NPY_ROWS, lambda n: binary[n % len(binary)])
        size = path.stat().st_size
        answer, seconds, cpu = post(bench, server, f"/v1/projects/b/instances?id_prefix=n{r}-", path, "application/x-npy")
        assert answer["created"] == NPY_ROWS, answer
        bench.add("npy instances of 384 features", "MB/s", size / 1e6 / seconds, ">= 300")
        bench.add("npy instances: server CPU", "us", cpu / NPY_ROWS * 1e6)
        limit = bare(bench, "bare-instances", NPY_ROWS, "instance") * DIM * 4 / 1e6
        bench.add("npy instances of 384 features: bare SQLite", "MB/s", limit)
        bench.add("npy instances of 384 features: ratio to bare SQLite", "x", size / 1e6 / seconds / limit)
        bench.add("log and file written twice and synced, nothing else", "MB/s", disk(bench))
        path = bench.lines("features", NDJSON_ROWS, lambda n: f'{{"id":"j{r}-{n}","features":{texts[n % len(texts)]}}}\n')
        size = path.stat().st_size
        answer, seconds, cpu = post(bench, server, "/v1/projects/b/instances", path, "application/x-ndjson")
        assert answer["created"] == NDJSON_ROWS, answer
        bench.add("NDJSON instances of 384 features", "MB/s", size / 1e6 / seconds, ">= 60")
        bench.add("NDJSON instances: server CPU", "us", cpu / NDJSON_ROWS * 1e6)
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
