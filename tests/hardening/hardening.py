#!/usr/bin/env python3
"""How hard the program is to misuse once somebody is inside: flags of the binary, the systemd sandbox, system calls, core dumps.

    hardening.py --binary build/annotmixd

What needs a tool that is not there (systemd-analyze, strace) is skipped and says so.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fault"))
from server import Server  # noqa: E402

UNIT = ROOT / "src" / "systemd" / "annotmixd.service"
EXPOSURE_MOST = 2.0
results = {"passed": 0, "failed": 0, "skipped": 0}


def check(good, text):
    results["passed" if good else "failed"] += 1
    print(("ok: " if good else "FAIL: ") + text)


def skip(text):
    results["skipped"] += 1
    print("skipped: " + text)


def output(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def binary_flags(binary):
    headers, dynamic = output("readelf", "-lW", binary), output("readelf", "-dW", binary)
    symbols = output("readelf", "-W", "--dyn-syms", binary)
    check("Type:" in (head := output("readelf", "-hW", binary)) and "DYN" in head and "PIE" in dynamic, "position independent (PIE)")
    check("GNU_RELRO" in headers and "BIND_NOW" in dynamic, "full RELRO: nothing of the dynamic linker stays writable")
    check(re.search(r"GNU_STACK.* RW ", headers) is not None and not re.search(r"LOAD.*\bRWE\b", headers), "no memory writable and executable (NX)")
    check("__stack_chk_fail" in symbols, "stack protector")
    check(len(set(re.findall(r"\b__\w+_chk\b", symbols))) >= 5, "fortified library calls")
    check("memeql_sec" in symbols, "tokens are compared by nettle's memeql_sec, which takes equally long wherever they differ")
    check("RPATH" not in dynamic and "RUNPATH" not in dynamic and "TEXTREL" not in dynamic, "no RPATH, no text relocations")


def exposure():
    if not shutil.which("systemd-analyze"):
        return skip("the exposure of the systemd unit: no systemd-analyze")
    text = output("systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT))
    match = re.search(r"exposure level for \S+: ([0-9.]+)", text)
    if not match:
        return skip("the exposure of the systemd unit: systemd-analyze cannot say it here")
    return check(float(match.group(1)) <= EXPOSURE_MOST, f"systemd-analyze security: {match.group(1)} (at most {EXPOSURE_MOST})")


def calls_of(group, seen):
    """Names of a set of system calls, sets in it included."""
    names = set()
    for line in output("systemd-analyze", "--no-pager", "syscall-filter", group).splitlines()[1:]:
        word = line.strip()
        if word.startswith("@") and word not in seen:
            names |= calls_of(word, seen | {word})
        elif word and not word.startswith(("#", "@")):
            names.add(word)
    return names


def session(command, folder, log):
    """What a server does in its life: start, store, train, predict, back up, answer its socket, stop."""
    server = Server(command, folder / "s.db", "--backup-dir", str(folder / "copies"), "--backup-every", "1s", log=log)
    server.must("POST", "/v1/projects", {"name": "s", "classes": ["a", "b"], "feature_dim": 2})
    server.must("POST", "/v1/projects/s/instances", {"instances": [
        {"id": f"i{i}", "features": [i % 2, i % 3], "labels": [{"annotator": "x", "class": "ab"[i % 2]}]} for i in range(40)]})
    run = server.must("POST", "/v1/projects/s/training-runs", {"settings": {"epochs": 3, "hidden": [8]}})["id"]
    while server.must("GET", f"/v1/projects/s/training-runs/{run}?wait=20")["finished_at"] is None:
        pass
    server.must("POST", "/v1/projects/s/predict", {"instances": [{"features": [0.5, 0.5]}]})
    while not list((folder / "copies").glob("*.db")):
        server.must("GET", "/readyz")
    with open(f"/proc/{server.process.pid}/limits", encoding="ascii") as limits:
        core = re.search(r"Max core file size\s+(\S+)\s+(\S+)", limits.read()).groups()
    return server, core


def system_calls(binary):
    with tempfile.TemporaryDirectory(prefix="annotmix-hardening-") as name:
        folder = Path(name)
        with open(folder / "log", "wb") as log:
            server, core = session(binary, folder, log)
            check(core == ("0", "0"), "no core files")
            server.stop()
        if not shutil.which("strace") or not shutil.which("systemd-analyze") or not calls_of("@system-service", set()):
            return skip("system calls against the unit's filter: no strace or no systemd-analyze")
        # The wrapper hands SIGTERM on by being replaced: strace runs beside the program (-D).
        wrapper, trace = folder / "traced", folder / "trace"
        wrapper.write_text(f"#!/bin/sh\nexec strace -D -f -qq -o '{trace}' '{os.path.abspath(binary)}' \"$@\"\n", encoding="ascii")
        wrapper.chmod(0o700)
        (folder / "two").mkdir()
        try:
            with open(folder / "log", "wb") as log:
                server, _ = session(str(wrapper), folder / "two", log)
                server.stop()
        except RuntimeError:
            return skip("system calls against the unit's filter: strace is not allowed to trace here")
        lines = trace.read_text(encoding="ascii", errors="replace").splitlines()
        used = {m.group(1) for line in lines if (m := re.match(r"\d+ +([a-z_0-9]+)\(", line))}
        allowed = calls_of("@system-service", set()) - calls_of("@privileged", set())
        used -= {"fchown"} if os.geteuid() == 0 else set()  # SQLite, for a root that serves somebody else's file
        return check(len(used) > 40 and not used - allowed,
                     f"{len(used)} different system calls, outside the unit's filter: {sorted(used - allowed) or 'none'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    binary = parser.parse_args().binary
    binary_flags(binary)
    exposure()
    system_calls(binary)
    print(f"{results['passed']} passed, {results['failed']} failed, {results['skipped']} skipped")
    return 1 if results["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
