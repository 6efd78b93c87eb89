#!/usr/bin/env python3
"""The house rules that a machine can check. `make lint` runs it; every rule is one test of the closing line.

    lint.py [--binary build/annotmixd]    with the program, README.md is also compared with `serve --help`

Rules fail; lengths only warn (a table of settings or routes may be long), except where the project promises a number.
Works on the files that git knows or would add, and without git on everything outside build/.
"""
import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = {"Makefile", "README.md", "Dockerfile", "LICENSE", "src", "include", "migrations", "tests", "api"}

# Which rooms a room may include; "" stands for main.c.
ARROWS = {
    "util": {"util"},
    "learn": {"learn"},
    "crowd": {"crowd", "learn", "util/size.h"},  # no code of util may be needed: the library stands alone
    "store": {"store", "util"},
    "http": {"http", "util"},
    "work": {"work", "store", "crowd", "util", "http/http.h"},
    "endpoints": {"endpoints", "http", "work", "crowd", "store", "util"},
    "files": {"files", "work", "learn", "crowd", "util"},
    "simulate": {"simulate", "files", "crowd", "util"},
    "commands": {"commands", "files", "simulate", "endpoints", "http", "work", "crowd", "store", "util"},
    "": {"commands", "util"},
}
# Libraries that only one place may know.
ONLY_IN = {
    "microhttpd.h": r"src/http/",
    "sqlite3.h": r"src/store/",
    "cblas.h": r"src/learn/",
    "curl/curl.h": r"src/commands/",
    "csv.h": r"src/util/",
}
BANNED = """strcpy strcat strncpy sprintf vsprintf gets strtok atoi atol atof sscanf rand srand alloca system
setlocale""".split()
SQL = re.compile(r'"\s*(SELECT\s|INSERT\s+(OR\s|INTO\s)|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+TABLE|PRAGMA\s|'
                 r'BEGIN\s+IMMEDIATE|WITH\s+\w+\s+AS)')
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|\bnot implemented yet\b")
ABSOLUTE = re.compile(r"(?<![\w.*\])}])/wor[k]/|/hom[e]/\w")


def files():
    try:
        out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True)
        names = [n for n in out.stdout.decode().split("\0") if n]
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, sub, leaves in os.walk(ROOT):
            sub[:] = [s for s in sub if s not in {".git", "build", "__pycache__", "node_modules"}]
            names += [os.path.relpath(os.path.join(folder, leaf), ROOT) for leaf in leaves]
    return sorted(n for n in names if (ROOT / n).is_file())


def strip_c(text, strings=True):
    """The text with comments (and the insides of strings) blanked, every line kept in its place."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''

    def blank(match):
        token = match.group(0)
        if token[0] in "\"'":
            return token if not strings else token[0] + token[0]
        return re.sub(r"[^\n]", " ", token)

    return re.sub(pattern, blank, text, flags=re.S)


class Lint:
    def __init__(self, binary):
        self.binary = binary
        self.names = files()
        self.c = [n for n in self.names if re.match(r"(src|include|tests)/.*\.[ch]$", n)]
        self.src = [n for n in self.c if n.startswith(("src/", "include/"))]
        self.text = {n: (ROOT / n).read_text(encoding="utf-8", errors="replace") for n in self.names
                     if not re.search(r"\.(gz|npy|bin|amx|png|ico|model|csv)$", n)}
        self.warnings = []

    def each_line(self, names, stripped=False, strings=True):
        for name in names:
            text = strip_c(self.text[name], strings) if stripped else self.text[name]
            for number, line in enumerate(text.split("\n"), 1):
                yield name, number, line

    # ---- rules: each yields one line per offence -----------------------------------------------------------------
    def rule_top_level(self):
        """the top level holds what it should and nothing else"""
        there = {n.split("/")[0] for n in self.names if not n.startswith(".")}
        for name in sorted(there - TOP_LEVEL):
            yield f"{name}: does not belong on the top level"
        for name in sorted(TOP_LEVEL - there):
            yield f"{name}: missing"

    def rule_includes(self):
        """includes between the rooms of src/ point one way"""
        for name, number, line in self.each_line([n for n in self.src if n.startswith("src/")]):
            match = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
            if not match or match.group(1) == "annotmix.h":
                continue
            here = name.split("/")[1] if name.count("/") > 1 else ""
            target = match.group(1)
            if (ROOT / name).parent.joinpath(target).is_file():
                target = os.path.relpath((ROOT / name).parent / target, ROOT / "src")
            room = target.split("/")[0] if "/" in target else ""
            if room != here and room not in ARROWS[here] and target not in ARROWS[here]:
                yield f"{name}:{number}: {here or 'src'} must not include {target}"

    def rule_libraries(self):
        """each library is known to one room"""
        for name, number, line in self.each_line(self.src):
            match = re.match(r"\s*#\s*include\s*<([^>]+)>", line)
            if match and match.group(1) in ONLY_IN and not re.match(ONLY_IN[match.group(1)], name):
                yield f"{name}:{number}: <{match.group(1)}> belongs to {ONLY_IN[match.group(1)]} only"

    def rule_learner_is_pure(self):
        """src/learn and src/crowd do no input, output, logging or exit; JSON only in the model file's head"""
        for name, number, line in self.each_line([n for n in self.src if n.startswith(("src/learn/", "src/crowd/"))], True):
            if re.search(r"\b(printf|fprintf|puts|fopen|open|read|write|exit|abort)\s*\(", line):
                yield f"{name}:{number}: {line.strip()}"
            if re.search(r"#\s*include\s*<jansson.h>", line) and "model_file" not in name:
                yield f"{name}:{number}: JSON belongs to model_file.c"

    def rule_banned(self):
        """no function that is on the banned list"""
        pattern = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
        for name, number, line in self.each_line(self.c, True):
            if pattern.search(line):
                yield f"{name}:{number}: {line.strip()}"

    def rule_exit(self):
        """exit() only in main.c and the commands"""
        for name, number, line in self.each_line([n for n in self.src if n.count("/") > 1 and not n.startswith("src/commands/")], True):
            if re.search(r"(?<![\w.>])_?exit\s*\(", line):
                yield f"{name}:{number}: {line.strip()}"

    def rule_sql(self):
        """SQL only in src/store and migrations"""
        rest = [n for n in self.src if not n.startswith("src/store/")]
        for name, number, line in self.each_line(rest, True, strings=False):
            if SQL.search(line):
                yield f"{name}:{number}: {line.strip()}"

    def rule_bound_parameters(self):
        """no text is ever put into SQL: values are bound"""
        for name, number, line in self.each_line([n for n in self.src if n.startswith("src/store/")], True, strings=False):
            if re.search(r'"[^"]*\b(SELECT|INSERT|UPDATE|DELETE|WHERE|VALUES|PRAGMA|VACUUM|FROM)\b[^"]*%[-0-9.*]*s', line):
                yield f"{name}:{number}: {line.strip()}"

    def rule_comments(self):
        """C comments are /* */; every C file opens with one"""
        for name in self.c:
            if not name.startswith("tests/") and not self.text[name].lstrip().startswith("/*"):
                yield f"{name}:1: no comment at the head of the file"
        for name, number, line in self.each_line(self.c):
            if re.match(r"\s*//", line):
                yield f"{name}:{number}: // comment"

    def rule_guards(self):
        """include guards are named after the path"""
        for name in self.src:
            if name.endswith(".h"):
                path = re.sub(r"^(src|include)/", "", name)
                guards = {re.sub(r"\W", "_", p).upper() for p in (path, name)}
                match = re.search(r"#ifndef (\w+)", self.text[name])
                # kernel_math.h and its like are included several times on purpose and say so.
                if match is None and "included" in self.text[name][:3000]:
                    continue
                if match is None or match.group(1).rstrip("_") not in guards:
                    yield f"{name}: guard {match.group(1) if match else 'missing'}, not {sorted(guards)[0]}"

    def rule_columns(self):
        """no C line over 140 columns (over 120: a warning), no tab, no trailing blank in C, shell, Python and SQL"""
        code = [n for n in self.names if re.search(r"\.(c|h|sh|py|sql)$", n) and n in self.text]
        wide = {}
        for name, number, line in self.each_line(code):
            if len(line) > 140 and re.search(r"\.[ch]$", name):
                yield f"{name}:{number}: {len(line)} columns"
            elif len(line) > 120:
                wide[name] = wide.get(name, 0) + 1
            if line != line.rstrip():
                yield f"{name}:{number}: blank at the end of the line"
            if "\t" in line and name.endswith((".c", ".h", ".py")):
                yield f"{name}:{number}: tab"
        self.warnings += [f"{name}: {n} lines over 120 columns" for name, n in wide.items()]

    def rule_unfinished(self):
        """nothing left unfinished, no absolute path of somebody's machine"""
        names = [n for n in self.text if not n.startswith("tests/lint/") and n != "LICENSE"]
        for name, number, line in self.each_line(names):
            if UNFINISHED.search(line) or ABSOLUTE.search(line):
                yield f"{name}:{number}: {line.strip()[:100]}"

    def rule_makefile(self):
        """the Makefile has at most 150 lines"""
        lines = self.text["Makefile"].count("\n")
        if lines > 150:
            yield f"Makefile: {lines} lines"

    def rule_folder_readmes(self):
        """every folder with sources has a README.md that names each of them"""
        folders = {}
        for name in self.names:
            if re.match(r"(src|tests|migrations|api)/", name) and not name.endswith("README.md"):
                folders.setdefault(os.path.dirname(name), []).append(name)
        for folder, members in sorted(folders.items()):
            # tests/unit mirrors src, file by file: its folders need no list of their own.
            if re.match(r"tests/(unit/|data/|golden/|http/data|fuzz/)", folder) or folder.count("/") > 2:
                continue
            readme = self.text.get(folder + "/README.md")
            if readme is None:
                parent = self.text.get(os.path.dirname(folder) + "/README.md", "")
                if os.path.basename(folder) + "/" not in parent:
                    yield f"{folder}: no README.md"
                continue
            for member in members:
                leaf = os.path.basename(member)
                stem = leaf.rsplit(".", 1)[0]
                if not re.search(r"(?<![\w-])" + re.escape(stem.removesuffix("_int")) + r"(?![\w-])", readme) and \
                   not re.search(r"\*\.\w+", readme):
                    yield f"{folder}/README.md: does not name {leaf}"
            if readme.count("\n") > 30:
                self.warnings.append(f"{folder}/README.md: {readme.count(chr(10))} lines")

    def rule_lengths(self):
        """(warnings) files up to 600 lines, functions up to 60, folders up to 15 sources"""
        for name in self.src:
            lines = self.text[name].split("\n")
            if len(lines) > 601:
                self.warnings.append(f"{name}: {len(lines) - 1} lines")
            start = None
            for number, line in enumerate(lines, 1):
                if line == "{":
                    start = number
                elif line == "}" and start is not None:
                    if number - start > 61:
                        self.warnings.append(f"{name}:{start}: function of {number - start - 1} lines")
                    start = None
        counts = {}
        for name in self.src:
            if name.endswith(".c"):
                counts[os.path.dirname(name)] = counts.get(os.path.dirname(name), 0) + 1
        self.warnings += [f"{folder}: {n} sources" for folder, n in sorted(counts.items()) if n > 15]
        return iter(())

    def rule_readme_settings(self):
        """README's table of settings agrees with `annotmixd serve --help`"""
        if not self.binary:
            return
        out = subprocess.run([self.binary, "serve", "--help"], capture_output=True, text=True, timeout=20, check=False)
        # "  --flag VALUE   meaning", then a line "default X; ...; environment NAME".
        entries = re.findall(r"^  (--[a-z-]+) \S+\s+(.*)\n\s+default ([^;\n]+).*; environment (\w+)$", out.stdout, re.M)
        of_help = {flag: (environment, default, meaning) for flag, meaning, default, environment in entries}
        part = self.text["README.md"].split("## Settings", 1)[-1].split("\n## ", 1)[0]
        of_readme = {}
        for line in part.split("\n"):
            cells = [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
            if line.startswith("| `--") and len(cells) == 5:
                of_readme[cells[0]] = (cells[1], cells[3], cells[4])
        if not of_help:
            yield f"serve --help printed no flags (exit {out.returncode})"
        for flag in sorted(set(of_help) | set(of_readme)):
            if of_help.get(flag) != of_readme.get(flag):
                yield f"{flag}: help says {of_help.get(flag)}, README says {of_readme.get(flag)}"

    def run(self):
        passed = failed = skipped = 0
        for name in [n for n in dir(self) if n.startswith("rule_")]:
            if name == "rule_readme_settings" and not self.binary:
                skipped += 1
                continue
            rule = getattr(self, name)
            offences = list(rule())
            if offences:
                failed += 1
                print(f"FAIL {name[5:]}: {rule.__doc__}")
                for offence in offences[:40]:
                    print("  " + offence)
                if len(offences) > 40:
                    print(f"  and {len(offences) - 40} more")
            else:
                passed += 1
        if self.warnings:
            print(f"{len(self.warnings)} warnings:")
            for warning in self.warnings:
                print("  " + warning)
        print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
        return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary")
    return Lint(parser.parse_args().binary).run()


if __name__ == "__main__":
    sys.exit(main())
