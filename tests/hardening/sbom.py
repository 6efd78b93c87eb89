#!/usr/bin/env python3
"""The program and every library it loads, as CycloneDX 1.5 JSON: names, versions, SHA-256. Reads this machine, no network.

    sbom.py --binary build/annotmixd --version 0.1.0 [--out build/annotmixd.cdx.json]

Versions are those of the Debian packages the libraries come from; elsewhere the file's name has to do.
"""
import argparse
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path


def output(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def package_of(path):
    """(package, version, source) of a file, or None. /lib and /usr/lib are one folder, dpkg may know either."""
    for name in (path, path.removeprefix("/usr"), str(Path(path).resolve())):
        found = output("dpkg-query", "-S", name)
        if ":" in found:
            package = found.split(": ")[0].split(",")[0]
            shown = output("dpkg-query", "-W", "-f", "${Package}\t${Version}\t${source:Package}", package).split("\t")
            if len(shown) == 3:
                return shown
    return None


def component(path, needed):
    data = Path(path).read_bytes()
    name, version, purl = Path(path).name, "", None
    found = package_of(path)
    if found:
        name, version = found[0], found[1]
        purl = f"pkg:deb/debian/{found[0]}@{found[1].replace('+', '%2B').replace(':', '%3A')}"
    return {"type": "library", "bom-ref": purl or f"file:{Path(path).name}", "name": name, "version": version, "scope": "required",
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}], **({"purl": purl} if purl else {}),
            "properties": [{"name": "annotmix:file", "value": Path(path).name},
                           {"name": "annotmix:linked", "value": "directly" if Path(path).name in needed else "by another library"}]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", output("readelf", "-dW", arguments.binary)))
    paths = sorted(set(re.findall(r"=> (/\S+)", output("ldd", arguments.binary))))
    if not needed or not paths:
        print("sbom.py: readelf and ldd tell nothing about " + arguments.binary, file=sys.stderr)
        return 1
    components = {}
    for path in paths:
        one = component(path, needed)
        if one["bom-ref"] in components:
            components[one["bom-ref"]]["properties"] += one["properties"]
        else:
            components[one["bom-ref"]] = one
    digest = hashlib.sha256(Path(arguments.binary).read_bytes()).hexdigest()
    document = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
                "metadata": {"component": {"type": "application", "bom-ref": "annotmixd", "name": "annotmixd", "version": arguments.version,
                                           "licenses": [{"license": {"id": "MIT"}}],
                                           "hashes": [{"alg": "SHA-256", "content": digest}]}},
                "components": list(components.values()),
                "dependencies": [{"ref": "annotmixd", "dependsOn": sorted(
                    r for r, c in components.items() if any(p["value"] == "directly" for p in c["properties"]))}]}
    text = json.dumps(document, indent=1) + "\n"
    if arguments.out:
        Path(arguments.out).write_text(text, encoding="utf-8")
        print(f"{arguments.out}: {len(components)} components")
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
