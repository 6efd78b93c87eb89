"""A running annotmixd for fault tests and benchmarks: start, wait until ready, talk, end it one way or another."""
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time

KILL = getattr(signal, os.environ.get("ANNOTMIX_KILL", "SIGKILL"))  # a counting build writes its counters first


class Server:
    """`annotmixd serve` on a free port; `seconds_to_ready` is from the exec to the line that tells the address."""

    def __init__(self, binary, db, *flags, log=subprocess.DEVNULL, environment=None):
        start = time.monotonic()
        self.binary, self.db = binary, db
        self.process = subprocess.Popen([binary, "serve", "--db", str(db), "--listen", "127.0.0.1:0", *flags],
                                        stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True,
                                        env={**os.environ, **environment} if environment else None)
        line = self.process.stdout.readline()
        self.seconds_to_ready = time.monotonic() - start
        match = re.search(r"http://([0-9.]+):(\d+)", line)
        if not match:
            raise RuntimeError(f"the server did not start: {line!r}, exit status {self.process.wait()}")
        self.host, self.port = match.group(1), int(match.group(2))
        self.url = f"http://{self.host}:{self.port}"
        # Nobody reads what comes after the first line, but the pipe must not fill up.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def connection(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=60)

    def call(self, method, path, body=None, media_type="application/json", headers=None, connection=None):
        """(status, parsed JSON or None); body: anything JSON, or str/bytes as they are."""
        connection = connection or self.connection()
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        connection.request(method, path, body, {"Content-Type": media_type, **(headers or {})})
        answer = connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data) if data and "json" in answer.headers.get("Content-Type", "") else None

    def must(self, method, path, body=None, **options):
        status, answer = self.call(method, path, body, **options)
        if not 200 <= status < 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def memory_kib(self, field="VmRSS"):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(re.search(field + r":\s+(\d+)", status.read()).group(1))

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_until(self, condition, seconds=60):
        """Until condition() or the end of the process."""
        end = time.monotonic() + seconds
        while not condition() and self.process.poll() is None:
            if time.monotonic() > end:
                raise RuntimeError("waited in vain")
            time.sleep(0.002)

    def kill(self):
        self.process.send_signal(KILL)
        self.process.wait()

    def stop(self):
        """SIGTERM; returns (exit status, seconds)."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15), time.monotonic() - start
        except subprocess.TimeoutExpired:
            self.kill()
            raise
