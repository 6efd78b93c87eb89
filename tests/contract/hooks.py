"""What schemathesis must know of this service beyond the document: bodies that are not JSON, and patience."""

import json
import struct

import schemathesis
from hypothesis import strategies as st

def npy(rows, columns):
    head = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }" % (rows, columns)
    head += " " * (53 - (len(head) + 1) % 64 % 53) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + bytes(4 * rows * columns)


schemathesis.openapi.media_type(
    "application/x-npy", st.one_of(st.builds(npy, st.integers(0, 3), st.integers(0, 3)), st.binary(max_size=64)))
schemathesis.openapi.media_type(
    "application/vnd.annotmix.model", st.one_of(st.binary(max_size=64), st.binary(max_size=64).map(lambda b: b"AMXMODEL" + b)))


@schemathesis.serializer("application/x-ndjson", "text/csv", "application/x-npy", "application/vnd.annotmix.model")
def as_it_is(ctx, value):
    return value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.hook
def before_load_schema(ctx, raw_schema):
    """`x-lines`: the document's schema is that of a line; here an answer is the list of its lines."""
    nodes = [raw_schema]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if node.get("x-lines"):
                node["schema"] = {"type": "array", "items": node["schema"]}
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node


@schemathesis.deserializer("application/x-ndjson")
def lines(ctx, response):
    return [json.loads(line) for line in response.content.splitlines()]


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """Nothing waits long: waiting is tested elsewhere."""
    wait = (case.query or {}).get("wait")
    if isinstance(wait, (int, float)) and wait > 1:
        case.query["wait"] = 1
