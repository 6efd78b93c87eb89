#!/usr/bin/env python3
"""Writes api/openapi.json from api/openapi.yaml, always the same bytes for the same document.

    python3 tests/api/openapi_json.py           writes the file
    python3 tests/api/openapi_json.py --check   only says whether it is up to date (exit status 1 when not)

The program embeds both files, so that building it needs no YAML parser. Needs python3-yaml.
"""

import json
import os
import sys

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCE = os.path.join(ROOT, "api", "openapi.yaml")
TARGET = os.path.join(ROOT, "api", "openapi.json")


Fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same language; libyaml is ten times faster


class StrictLoader(Fast):
    """A key that stands twice is an error: plain YAML would take the last one in silence."""


def _mapping(loader, node):
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if not isinstance(key, str):
            raise yaml.YAMLError("key %r is not a string, %s" % (key, key_node.start_mark))
        if key in seen:
            raise yaml.YAMLError("key %r stands twice, %s" % (key, key_node.start_mark))
        seen.add(key)
    return Fast.construct_mapping(loader, node, deep=True)


StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping)


def document():
    with open(SOURCE, encoding="utf-8") as f:
        return yaml.load(f, Loader=StrictLoader)


def text():
    return json.dumps(document(), ensure_ascii=False, indent=1) + "\n"


def up_to_date():
    with open(TARGET, encoding="utf-8") as f:
        return f.read() == text()


def main(arguments):
    if arguments == ["--check"]:
        if up_to_date():
            return 0
        print(
            "api/openapi.json is not what api/openapi.yaml says; run python3 tests/api/openapi_json.py", file=sys.stderr
        )
        return 1
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    new = text()
    with open(TARGET + ".tmp", "w", encoding="utf-8") as f:
        f.write(new)
    os.replace(TARGET + ".tmp", TARGET)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
