#!/usr/bin/env python3
"""schemathesis against a running server, from the document that the server itself gives out.

    run_schemathesis.py --binary build/annotmixd --st build/contract/bin/st [--seconds N] [--examples N] [--seed N] [--log F]

All checks and all phases (examples, coverage, fuzzing, stateful). The server requires tokens, and schemathesis has one of
an admin, so that "ignored_auth" can be checked too; it is stopped afterwards and must end well. 5xx is a failure.
Closing line: "N passed, N failed" (test cases).
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "fault"))
from server import Server

TOKEN = "amx_contract_tests_only"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--st", required=True)
    parser.add_argument("--seconds", type=int, default=0, help="time for fuzzing and stateful; 0 = by examples alone")
    parser.add_argument("--examples", type=int, default=10, help="of each operation")
    parser.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", help="keep what schemathesis says here")
    args, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="annotmix-contract-") as folder:
        token_file = os.path.join(folder, "token")
        with open(token_file, "w", encoding="ascii") as f:
            f.write(TOKEN + "\n")
        server_log = open(os.path.join(folder, "server.log"), "w", encoding="ascii")
        server = Server(os.path.abspath(args.binary), os.path.join(folder, "contract.db"), "--auth", "token",
                        "--admin-token-file", token_file, "--trainers", "1", log=server_log)
        words = [os.path.abspath(args.st), "--config-file", os.path.join(HERE, "schemathesis.toml"), "--no-color", "run",
                 server.url + "/openapi.json", "--phases", args.phases, "-n", str(args.examples), "--seed", str(args.seed),
                 "-H", "Authorization: Bearer " + TOKEN, "--continue-on-failure", "--request-timeout", "60",
                 "--suppress-health-check", "all", "--generation-database", "none", *more]
        if args.seconds:
            words += ["--max-time", str(args.seconds)]
        print("seed %d" % args.seed, flush=True)
        done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": HERE})
        status, _ = server.stop()
        server_log.close()
        with open(server_log.name, encoding="utf-8", errors="replace") as f:
            errors = [line for line in f if '"level":"error"' in line]
    if args.log:
        with open(args.log, "w", encoding="utf-8") as f:
            f.write(done.stdout)
    tail = done.stdout[done.stdout.find("= FAILURES ="):] if "= FAILURES =" in done.stdout else done.stdout[-3000:]
    if done.returncode != 0:
        print(tail[:8000])
    print("".join(errors[:20]), end="")
    cases = re.search(r"(\d+) generated(?:, (\d+) found)?", done.stdout)
    total, bad = (int(cases.group(1)), int(cases.group(2) or 0)) if cases else (0, 1)
    bad = max(bad, int(done.returncode != 0 or status != 0 or bool(errors)))
    if status != 0:
        print("the server ended with status %d" % status)
    print("%d passed, %d failed" % (total - bad, bad))
    return int(bad != 0)


if __name__ == "__main__":
    sys.exit(main())
