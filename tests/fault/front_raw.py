#!/usr/bin/env python3
"""The raw requests of tests/http/raw_requests.py in every set-up: by themselves, behind nginx, behind haproxy, and on
other releases of libmicrohttpd (Debian's packages of them, unpacked into a folder; nothing is installed).

    front_raw.py --binary build/annotmixd [--setups direct,nginx,haproxy] [--library SUITE[:VERSION] ...] [--work FOLDER]

A set-up is skipped, aloud, when its proxy is not installed or the package cannot be had; with --strict it then fails.
Behind a proxy a verdict is: never a second request that lies hidden in another, never 2xx for what the program refuses,
except where the proxy itself made one clear request of it (`proxied` in the table), and an end within seconds.
"""
import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("http", "ci")]
from debootstrap import mirror  # noqa: E402
from raw_requests import CASES, get, second_requests, split_answers, verdict  # noqa: E402
from server import Server  # noqa: E402

NGINX = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_header_timeout 3s; client_body_timeout 3s;
  upstream annotmix {{ server 127.0.0.1:{back}; keepalive 4; }}
  server {{ listen 127.0.0.1:{front}; client_max_body_size 0;
    location / {{ proxy_pass http://annotmix; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_request_buffering off; proxy_buffering off; proxy_read_timeout 5s; }} }} }}
"""
HAPROXY = """global
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout client 3s
  timeout server 5s
  timeout http-request 3s
  http-reuse always
frontend front
  bind 127.0.0.1:{front}
  default_backend back
backend back
  server annotmix 127.0.0.1:{back}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Proxy:
    """nginx or haproxy between a port of its own and the program's."""

    def __init__(self, name, back, folder):
        self.port = free_port()
        config = folder / (name + ".conf")
        text = NGINX if name == "nginx" else HAPROXY
        config.write_text(text.format(folder=folder, front=self.port, back=back), encoding="ascii")
        program = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        words = [program, "-p", str(folder), "-c", str(config)] if name == "nginx" else [program, "-db", "-f", str(config)]
        with open(folder / (name + ".log"), "wb") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 2) as s:
                    s.sendall(get(b"Connection: close\r\n"))
                    if b" 200 " in s.recv(4096):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"{name} does not start:\n" + (folder / (name + ".log")).read_text())

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def library(release, work):
    """Folder with libmicrohttpd.so.12 of "SUITE[:VERSION]", by Debian's own package tool and keys; None: cannot be had."""
    suite, _, version = release.partition(":")
    root = work / release.replace(":", "-")
    found = list(root.glob("tree/usr/lib/*/libmicrohttpd.so.12"))
    if found:
        return found[0].parent
    shutil.rmtree(root, ignore_errors=True)
    for part in ("state/lists/partial", "cache/archives/partial", "etc/parts", "tree"):
        (root / part).mkdir(parents=True)
    (root / "etc/sources.list").write_text(
        f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror()} {suite} main\n", encoding="ascii")
    (root / "status").write_text("", encoding="ascii")
    options = {"Dir::State": root / "state", "Dir::State::status": root / "status", "Dir::Cache": root / "cache",
               "Dir::Etc::SourceList": root / "etc/sources.list", "Dir::Etc::SourceParts": root / "etc/parts",
               "Dir::Etc::Preferences": "/dev/null", "Dir::Etc::PreferencesParts": root / "etc/parts",
               "Acquire::Languages": "none", "APT::Sandbox::User": "root"}
    apt = ["apt-get", "-qq"] + [word for k, v in options.items() for word in ("-o", f"{k}={v}")]
    try:
        subprocess.run(apt + ["update"], check=True, timeout=240, stdin=subprocess.DEVNULL)
        subprocess.run(apt + ["download", "libmicrohttpd12t64" + ("=" + version if version else "")], check=True, timeout=120, cwd=root,
                       stdin=subprocess.DEVNULL)
        package = next(root.glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), str(root / "tree")], check=True)
        return next(root.glob("tree/usr/lib/*/libmicrohttpd.so.12")).parent
    except (OSError, subprocess.SubprocessError, StopIteration) as error:
        print(f"{release} cannot be had: {error}")
        return None


def run_table(name, binary, proxy=None, libraries=None):
    """One set-up; returns the number of verdicts that failed."""
    folder = Path(tempfile.mkdtemp(prefix="annotmix-front-"))
    environment, front = None, None
    if libraries is not None:
        environment = {"LD_LIBRARY_PATH": str(libraries)}
    try:
        log_path = folder / "annotmixd.log"
        with open(log_path, "wb") as log:
            server = Server(binary, folder / "a.db", "--header-seconds", "5", "--body-seconds", "5", log=log,
                            environment=environment)
        version = server.must("GET", "/v1/")["http"]
        try:
            front = Proxy(proxy, server.port, folder) if proxy else None
            port, kind = (front.port, proxy) if front else (server.port, "direct")
            with ThreadPoolExecutor(8) as pool:
                wrong = list(pool.map(lambda case: verdict(port, case, kind), CASES))
            with socket.create_connection(("127.0.0.1", server.port), 10) as fence:
                fence.sendall(get(b"Connection: close\r\n"))
                data = b""
                while piece := fence.recv(65536):
                    data += piece
            assert split_answers(data)[0][0] == 200, "the server does not answer any more"
        finally:
            if front:
                front.stop()
            status, _ = server.stop()
        assert status == 0, f"exit status {status}"
        log_text = log_path.read_text(encoding="utf-8", errors="replace")
        hidden = set(second_requests(log_text, CASES, kind))
        failed = 0
        for case, why in zip(CASES, wrong):
            why = "its second request was answered" if case.name in hidden else why
            if why:
                failed += 1
                print(f"{name}: {case.name}: {why}")
        print(f"{name}, libmicrohttpd {version}: {len(CASES) - failed} of {len(CASES)} verdicts as wanted", flush=True)
        return failed
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="build/annotmixd")
    parser.add_argument("--setups", default="direct,nginx,haproxy")
    parser.add_argument("--library", action="append", default=[], metavar="SUITE[:VERSION]")
    parser.add_argument("--work", type=Path, default=Path("build/libmicrohttpd"))
    parser.add_argument("--strict", action="store_true", help="a set-up that cannot be had is a failure")
    options = parser.parse_args()
    passed = failed = skipped = 0
    jobs = []
    for name in options.setups.split(","):
        proxy = None if name == "direct" else name
        have = proxy is None or shutil.which(proxy, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        jobs.append((name, proxy, None, have))
    for release in options.library:
        folder = library(release, options.work.resolve())
        jobs.append(("direct " + release, None, folder, folder is not None))
    for name, proxy, folder, have in jobs:
        if not have:
            print(f"{name}: skipped, not to be had here")
            skipped += 1
            continue
        wrong = run_table(name, options.binary, proxy, folder)
        passed, failed = passed + len(CASES) - wrong, failed + wrong
    if options.strict:
        failed += skipped
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
