#!/usr/bin/env python3
"""Proves the Dockerfile without Docker: its steps, one by one, in clean Debian trees made by debootstrap.

    debootstrap.py SUITE [--bases FOLDER] [--work FOLDER]      SUITE: bookworm or trixie; needs root and debootstrap

What it does: makes (or takes from --bases) a minimal tree of SUITE for each stage, copies the committed state of this
repository in where the Dockerfile says `COPY . .`, runs every RUN in the stage's tree, copies between stages, then starts
the program as the Dockerfile's user with its ENV and sends it a few requests from outside, its HEALTHCHECK included.
Understands the instructions that our Dockerfile uses and stops at any other. The mirror is this machine's own.
"""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(command, **options):
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, **options)


def mirror():
    """The address of Debian's archive in this machine's package sources."""
    for source in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if source.is_file():
            match = re.search(r"^(?:URIs:|deb(?:\s+\[[^]]*\])?)\s*(https?://\S*/debian)/?(?=\s)", source.read_text(), re.M)
            if match:
                return match.group(1)
    raise SystemExit("this machine's package sources name no archive of Debian")


def instructions(text):
    """(instruction, arguments) of a Dockerfile, continuation lines joined, comments left out."""
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).split("\n"):
        word, rest = line.split(None, 1)
        yield word.upper(), rest.strip()


def unmount(path):
    """Takes /proc and /dev out of a tree, also one that an earlier run left behind; only then may it be deleted."""
    for name in ("proc", "dev"):
        if os.path.ismount(path / name):
            run(["umount", "-l", str(path / name)])


class Tree:
    """A file system tree in which commands run under chroot; main() unmounts its /proc and /dev."""

    def __init__(self, path):
        self.path, self.env, self.cwd, self.user = path, {}, "/", "root"
        for name in ("proc", "dev"):
            run(["mount", "--bind", "/" + name, str(path / name)])
        shutil.copy("/etc/resolv.conf", path / "etc/resolv.conf")
        shutil.copy("/etc/hosts", path / "etc/hosts")
        # This machine's archive may be a snapshot that is not renewed; signatures are checked all the same.
        (path / "etc/apt/apt.conf.d/90snapshot").write_text('Acquire::Check-Valid-Until "false";\n')

    def inside(self, path):
        return self.path / os.path.join(self.cwd, path).lstrip("/")

    def command(self, words):
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **self.env}
        settings = [f"{k}={v}" for k, v in env.items()]
        user = [] if self.user == "root" else [f"--userspec={self.user}:{self.user}"]
        where = ["sh", "-c", 'cd "$0" && exec "$@"', self.cwd]
        return ["chroot", *user, str(self.path), "/usr/bin/env", "-i", *settings, *where, *words]


def build(suite, bases, work):
    """Runs the Dockerfile; returns the last stage's tree, and its HEALTHCHECK, ENTRYPOINT and CMD."""
    trees, final = {}, {}
    tree = None
    for word, rest in instructions((ROOT / "Dockerfile").read_text()):
        print(f"[{suite}] {word} {rest}", flush=True)
        if word == "FROM":
            name = rest.split(" AS ")[1] if " AS " in rest else f"stage{len(trees)}"
            path = work / name
            if path.exists():
                unmount(path)
                shutil.rmtree(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            base = bases / suite
            if not base.exists():
                base.parent.mkdir(parents=True, exist_ok=True)
                run(["debootstrap", "--variant=minbase", suite, str(base), mirror()], stdout=subprocess.DEVNULL)
            run(["cp", "-a", str(base), str(path)])
            tree = trees[name] = Tree(path)
        elif word == "ARG":
            continue
        elif word == "WORKDIR":
            tree.cwd = rest
            tree.inside("").mkdir(parents=True, exist_ok=True)
        elif word == "COPY" and rest == ". .":
            archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
            subprocess.run(["tar", "x", "-C", str(tree.inside(""))], input=archive, check=True)
        elif word == "COPY":
            match = re.fullmatch(r"--from=(\w+) (\S+) (\S+)", rest)
            run(["cp", "-a", str(trees[match.group(1)].path / match.group(2).lstrip("/")), str(tree.inside(match.group(3)))])
        elif word == "RUN":
            start = time.monotonic()
            run(tree.command(["sh", "-c", rest]))
            print(f"[{suite}]   {time.monotonic() - start:.0f} s", flush=True)
        elif word == "ENV":
            tree.env.update(pair.split("=", 1) for pair in rest.split())
        elif word == "USER":
            tree.user = rest
        elif word in ("HEALTHCHECK", "ENTRYPOINT", "CMD"):
            final[word] = json.loads(rest[rest.index("["):])
        elif word not in ("VOLUME", "EXPOSE", "STOPSIGNAL"):
            sys.exit(f"debootstrap.py does not know the instruction {word}")
    return tree, final


def request(url, token, method="GET", body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
        return json.load(answer)


def smoke(suite, tree, final):
    """Starts the program in its tree and makes it work a little; returns what it says of itself."""
    tree.env["ANNOTMIX_LISTEN"] = "127.0.0.1:0"
    tree.env["ANNOTMIX_AUTH"] = "token"
    token = "amx_" + ("smoke-test-" * 4)[:43]
    tree.inside("admin-token").write_text(token)
    tree.inside("admin-token").chmod(0o644)
    tree.env["ANNOTMIX_ADMIN_TOKEN_FILE"] = "/data/admin-token"
    version = subprocess.run(tree.command(final["ENTRYPOINT"] + ["version"]), capture_output=True, text=True, check=True).stdout
    server = subprocess.Popen(tree.command(final["ENTRYPOINT"] + final["CMD"]), stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        url = re.search(r"http://\S+", line).group(0) + "/v1/projects"
        run(tree.command(final["HEALTHCHECK"]))
        try:
            request(url, "wrong")
            raise AssertionError("a wrong token was let in")
        except urllib.error.HTTPError as error:
            assert error.code == 401, error.code
        request(url, token, "POST", {"name": "smoke", "classes": ["no", "yes"], "feature_dim": 2})
        rows = [{"id": f"i{i}", "features": [i % 2, i / 40], "labels": [{"annotator": "a", "class": ["no", "yes"][i % 2]}]}
                for i in range(40)]
        assert request(url + "/smoke/instances", token, "POST", {"instances": rows})["accepted"] == 40
        run_id = request(url + "/smoke/training-runs", token, "POST", {"settings": {"epochs": 5}})["id"]
        state = request(f"{url}/smoke/training-runs/{run_id}?wait=55", token)
        assert state["state"] == "succeeded", state
        answer = request(url + "/smoke/predict", token, "POST", {"instances": [{"features": [1, 0.5]}]})
        assert len(answer["predictions"][0]["p_class"]) == 2
        rss = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text()).group(1)
        server.send_signal(signal.SIGTERM)
        assert server.wait(12) == 0, server.returncode
    finally:
        server.kill()
    print(f"[{suite}] smoke test passed: token needed, 40 labels in, trained, predicted, ended in order; {rss} KiB resident")
    print(re.sub(r"(?m)^", f"[{suite}] ", version.rstrip()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("suite", choices=["bookworm", "trixie"])
    parser.add_argument("--bases", type=Path, default=ROOT / "build/debootstrap/bases", help="folder of untouched trees")
    parser.add_argument("--work", type=Path, default=ROOT / "build/debootstrap/work", help="folder of the trees that are changed")
    arguments = parser.parse_args()
    try:
        tree, final = build(arguments.suite, arguments.bases, arguments.work / arguments.suite)
        smoke(arguments.suite, tree, final)
    finally:
        # Also after a failure half way: whatever is mounted below the work folder goes.
        for stage in sorted((arguments.work / arguments.suite).glob("*")):
            unmount(stage)
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
