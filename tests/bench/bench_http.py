"""Benchmark parts of HTTP: resident memory, single labels, predictions. run.py has the harness."""
import json


def part_memory(bench):
    """resident memory with an empty database, and the time to get ready"""
    for n in range(bench.rounds):
        server = bench.server(f"empty{n}")
        server.must("GET", "/v1/")
        bench.add("idle resident memory, empty database", "MiB", server.memory_kib() / 1024, "< 20")
        bench.add("start to ready, empty database", "ms", server.seconds_to_ready * 1000)
        server.stop()


def part_labels(bench):
    """single labels, every one committed before its answer"""
    server = bench.server("labels")
    bench.project(server, labels=0)
    for connections, rate_target, p99_target in ((64, ">= 10000", ""), (1, "", "< 10")):
        for n in range(bench.rounds):
            before = server.must("GET", "/v1/projects/b")["counts"]["labels"]
            rate, p50, p99, bad, errors = bench.wrk(server, "post_labels.lua", "/v1/projects/b/labels", connections,
                                                   RUN=f"{connections}.{n}")
            stored = server.must("GET", "/v1/projects/b")["counts"]["labels"] - before
            name = f"single-label POST, {connections} connection{'s' * (connections > 1)}"
            bench.add(name, "1/s", rate, rate_target)
            bench.add(name + ", stored labels", "1/s", stored / bench.seconds)
            bench.add(name + ", p50", "ms", p50)
            bench.add(name + ", p99", "ms", p99, p99_target)
            if bad or errors:
                bench.add(name + ", answers not 2xx or broken", "", bad + errors, "0")
    server.stop()


def part_predict(bench):
    """predictions of one instance as JSON, alone and while training runs"""
    server = bench.server("predict", "--trainers", "1")
    bench.project(server)
    bench.train(server, epochs=10)
    body = bench.folder / "predict.json"
    body.write_text(json.dumps({"instances": [{"features": bench.features()}]}))
    for _ in range(bench.rounds):
        rate, p50, p99, bad, errors = bench.wrk(server, "post_body.lua", "/v1/projects/b/predict", 64, BODY=str(body))
        bench.add("predict, one instance of 124 features as JSON, 64 connections", "1/s", rate, ">= 20000")
        bench.add("predict, 64 connections, p50", "ms", p50)
        bench.add("predict, 64 connections, p99", "ms", p99)
        if bad or errors:
            bench.add("predict, answers not 2xx or broken", "", bad + errors, "0")
    run = bench.train(server, wait=False, epochs=10000)
    while server.must("GET", f"/v1/projects/b/training-runs/{run}?wait=1")["state"] != "running":
        pass
    for _ in range(bench.rounds):
        rate, _, p99, bad, errors = bench.wrk(server, "post_body.lua", "/v1/projects/b/predict", 64, BODY=str(body),
                                             PAUSE_MS="31")
        state = server.must("GET", f"/v1/projects/b/training-runs/{run}")["state"]
        assert state == "running", f"the training ended too early: {state}"
        bench.add("predict while training runs: rate", "1/s", rate, "~ 2000")
        bench.add("predict while training runs: p99", "ms", p99, "< 20")
        if bad or errors:
            bench.add("predict while training, answers not 2xx or broken", "", bad + errors, "0")
    server.must("POST", f"/v1/projects/b/training-runs/{run}/cancel")
    server.stop()
