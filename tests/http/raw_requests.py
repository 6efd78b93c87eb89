"""Raw requests that parsers read in different ways, each with the answer that is wanted. test_raw.py sends them to the
program, tests/fault/front_raw.py also through proxies and to other versions of libmicrohttpd.

A request may carry a second one where a parser that frames the first one wrongly would find it. The second one has an
X-Request-Id of its own, so the program's log tells for certain whether it was ever taken for a request.
"""

import re
import socket
import time

HOST = b"Host: localhost\r\n"
PATIENCE = 8  # seconds; below every deadline of the server: who answers only then has hung
OK = {200, 201, 204}
CLOSED = {0}  # the connection ended without an answer
SETUPS = ("direct", "nginx", "haproxy")


class Case:
    """want: statuses wanted from the program itself. ends: the connection must end after the answer. hidden: the second
    request in it lies where only a wrong parser finds one. proxied: set-up -> statuses, where a proxy changes the
    request so that it may be served; otherwise the proxy may refuse with anything but 2xx."""

    def __init__(self, name, raw, want, ends=True, hidden=True, proxied=None, answers=1, head=False):
        self.name, self.want, self.ends, self.hidden = name, set(want), ends, hidden
        self.proxied, self.answers, self.head = proxied or {}, answers, head
        self.raw = raw.replace(b"SMUGGLED", second(name))

    def wanted(self, setup):
        if setup == "direct":
            return self.want
        return self.proxied.get(setup, self.want | (set(range(400, 600)) | CLOSED if not self.want & OK else set()))


def second(name):
    return b"GET /livez HTTP/1.1\r\n" + HOST + b"X-Request-Id: second-" + name.encode() + b"\r\n\r\n"


def get(headers=b"", body=b"", target=b"/livez", method=b"GET", version=b"HTTP/1.1", host=HOST):
    return method + b" " + target + b" " + version + b"\r\n" + host + headers + b"\r\n" + body


def post(name, headers=b"", body=None):
    """A POST that makes a project when its body is taken as the sender of `headers` means it."""
    content = b'{"name":"%s","classes":["a","b"]}' % name.encode()
    return (
        b"POST /v1/projects HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n" + headers + b"\r\n"
        + (content if body is None else body.replace(b"JSON", content))
    )


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


END = b"0\r\n\r\n"
N = b"%d" % len(second("x" * 8))  # about: what a parser takes that believes the wrong length
TE = b"Transfer-Encoding: chunked\r\n"
CHUNKED_JSON = lambda name: chunk(b'{"name":"%s","classes":["a","b"]}' % name.encode()) + END  # noqa: E731


def lengths():
    """Content-Length and Transfer-Encoding."""
    yield Case("cl-te", post("cl-te", b"Content-Length: 5\r\n" + TE, END + b"SMUGGLED"), {400},
               proxied={"haproxy": {400, 422}})  # removes the length and closes; an empty body is no project
    yield Case("te-cl", post("te-cl", TE + b"Content-Length: 5\r\n", END + b"SMUGGLED"), {400},
               proxied={"haproxy": {400, 422}})
    yield Case("cl-te-get", get(b"Content-Length: %d\r\n" % (5 + len(second("cl-te-get"))) + TE, END + b"SMUGGLED"),
               {400}, proxied={"haproxy": {200, 400}})
    yield Case("cl-te-cl", get(b"Content-Length: 5\r\n" + TE + b"Content-Length: 5\r\n", END + b"SMUGGLED"), {400},
               proxied={"haproxy": {200, 400}})
    yield Case("cl-0-n", get(b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(second("cl-0-n")), b"SMUGGLED"), {400})
    yield Case("cl-n-0", get(b"Content-Length: %d\r\nContent-Length: 0\r\n" % len(second("cl-n-0")), b"SMUGGLED"), {400})
    yield Case("cl-same-twice", get(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abcSMUGGLED"), {400}, hidden=False,
               proxied={"haproxy": {200, 400}})  # makes one of two that are the same
    yield Case("cl-plus", get(b"Content-Length: +3\r\n", b"abcSMUGGLED"), {400})
    yield Case("cl-minus", get(b"Content-Length: -1\r\n", b"SMUGGLED"), {400})
    yield Case("cl-hex", get(b"Content-Length: 0x3\r\n", b"abcSMUGGLED"), {400})
    yield Case("cl-list-same", get(b"Content-Length: 3, 3\r\n", b"abcSMUGGLED"), {400}, hidden=False,
               proxied={"haproxy": {200, 400}})
    yield Case("cl-list", get(b"Content-Length: 0, 3\r\n", b"SMUGGLED"), {400})
    yield Case("cl-empty", get(b"Content-Length:\r\n", b"SMUGGLED"), {400})
    yield Case("cl-junk", get(b"Content-Length: 3x\r\n", b"abcSMUGGLED"), {400})
    yield Case("cl-blank-inside", get(b"Content-Length: 0 3\r\n", b"abcSMUGGLED"), {400})
    # haproxy 2.6 reads 2^64 as 0 and closes towards the program, which refuses: the second is then one of its own.
    yield Case("cl-2-to-64", get(b"Content-Length: 18446744073709551616\r\n", b"SMUGGLED"), {400, 413}, hidden=False)
    yield Case("cl-max", get(b"Content-Length: 18446744073709551615\r\n", b"SMUGGLED"), {400, 413})
    yield Case("cl-space-colon", get(b"Content-Length : %d\r\n" % len(second("cl-space-colon")), b"SMUGGLED"), {400})
    yield Case("cl-te-bad-name", get(b"Content-Length: 5\r\nTransfer-Encoding : chunked\r\n", END + b"SMUGGLED"), {400})
    yield Case("te-xchunked", get(b"Transfer-Encoding: xchunked\r\n", END + b"SMUGGLED"), {400, 501})
    yield Case("te-gzip-chunked", get(b"Transfer-Encoding: gzip, chunked\r\n", END + b"SMUGGLED"), {400, 501})
    yield Case("te-identity", get(b"Transfer-Encoding: identity\r\n", END + b"SMUGGLED"), {400, 501})
    yield Case("te-chunked-chunked", get(b"Transfer-Encoding: chunked, chunked\r\n", END + b"SMUGGLED"), {400, 501})
    yield Case("te-comma", get(b"Transfer-Encoding: chunked,\r\n", END + b"SMUGGLED"), {400, 501}, hidden=False,
               proxied={"haproxy": {200, 400, 501}})  # an empty member of a list means nothing
    yield Case("te-quoted", get(b'Transfer-Encoding: "chunked"\r\n', END + b"SMUGGLED"), {400, 501})
    yield Case("te-empty", get(b"Transfer-Encoding:\r\n", END + b"SMUGGLED"), {400, 501})
    yield Case("te-vertical-tab", get(b"Transfer-Encoding: \x0bchunked\r\n", END + b"SMUGGLED"), {400, 501})
    yield Case("te-twice", get(TE + TE, END + b"SMUGGLED"), {400}, hidden=False)
    yield Case("te-chunked-identity", get(TE + b"Transfer-Encoding: identity\r\n", END + b"SMUGGLED"), {400, 501})
    yield Case("te-identity-chunked", get(b"Transfer-Encoding: identity\r\n" + TE, END + b"SMUGGLED"), {400, 501})
    yield Case("te-http-1-0", get(TE, END + b"SMUGGLED", version=b"HTTP/1.0"), {400}, hidden=False)
    yield Case("te-any-case", post("te-any-case", b"Transfer-Encoding: CHUNKED\r\n", CHUNKED_JSON("te-any-case")), {201},
               ends=False)


def chunks():
    yield Case("chunk-overflow", post("chunk-overflow", TE, b"FFFFFFFFFFFFFFFFF\r\nSMUGGLED"), {400, 413})
    yield Case("chunk-not-hex", post("chunk-not-hex", TE, b"zz\r\nSMUGGLED"), {400})
    yield Case("chunk-0x", post("chunk-0x", TE, b"0x3\r\nabc\r\n0\r\n\r\nSMUGGLED"), {400})
    yield Case("chunk-minus", post("chunk-minus", TE, b"-3\r\nabc\r\n0\r\n\r\nSMUGGLED"), {400})
    yield Case("chunk-no-end", post("chunk-no-end", TE, b"3\r\nabcdef\r\n0\r\n\r\nSMUGGLED"), {400})
    yield Case("chunk-extension", post("chunk-extension", TE, CHUNKED_JSON("chunk-extension").replace(b"\r\n", b";a=b\r\n", 1)),
               {201, 400}, ends=False)  # 1.0.1 refuses extensions


def lines():
    """Line ends, folding, names, values."""
    bare = get(b"X-A: b\r\n", b"").replace(b"\r\n", b"\n")
    yield Case("bare-lf", bare + b"SMUGGLED", {400}, hidden=False, proxied={"nginx": {200, 400}, "haproxy": {200, 400}})
    yield Case("bare-lf-one", get(b"X-A: b\nX-B: c\r\n", b"SMUGGLED"), {400}, hidden=False,
               proxied={"nginx": {200, 400}, "haproxy": {200, 400}})
    yield Case("bare-cr-in-value", get(b"X-A: b\rX-B: c\r\n", b"SMUGGLED"), {400}, hidden=False)
    yield Case("bare-cr-before-te", get(b"X-A: b\rTransfer-Encoding: chunked\r\n", END + b"SMUGGLED"), {400})
    yield Case("nul-in-value", get(b"X-A: b\0c\r\n", b"SMUGGLED"), {400}, hidden=False)
    yield Case("nul-in-name", get(b"X-\0A: b\r\n", b"SMUGGLED"), {400}, hidden=False)
    yield Case("control-in-value", get(b"X-A: b\x01c\r\n", b"SMUGGLED"), {400}, hidden=False)
    yield Case("delete-in-value", get(b"X-A: b\x7fc\r\n", b"SMUGGLED"), {400}, hidden=False)
    yield Case("control-in-name", get(b"X-\x02A: b\r\n", b"SMUGGLED"), {400}, hidden=False,
               proxied={"nginx": {200, 400}})  # leaves the header out
    yield Case("name-with-blank", get(b"X A: b\r\n", b"SMUGGLED"), {400}, hidden=False, proxied={"nginx": {200, 400}})
    yield Case("name-no-token", get(b"X(A): b\r\n", b"SMUGGLED"), {400}, hidden=False, proxied={"nginx": {200, 400}})
    yield Case("name-empty", get(b": x\r\nContent-Length: %d\r\n" % len(second("name-empty")), b"SMUGGLED"), {400})
    yield Case("no-colon", get(b"garbage\r\n", b"SMUGGLED"), {400}, hidden=False, proxied={"nginx": {200, 400}})
    yield Case("fold", get(b"X-A: b\r\n c\r\n", b"SMUGGLED"), {400}, hidden=False,
               proxied={"nginx": {200, 400}, "haproxy": {200, 400}})
    yield Case("nul-at-the-end", get(b"X-A: b\0\0\r\n", b"SMUGGLED"), {400}, hidden=False)
    yield Case("fold-te", get(b"Content-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n", END + b"SMUGGLED"), {400, 501},
               proxied={"haproxy": {200, 400}})
    yield Case("fold-first", b"GET /livez HTTP/1.1\r\n X-A: b\r\n" + HOST + b"\r\nSMUGGLED", {400}, hidden=False)
    yield Case("empty-line-first", b"\r\n" + get(), {200, 400} | CLOSED, ends=False)


def hosts():
    yield Case("host-twice", get(HOST, b"SMUGGLED"), {400}, hidden=False,
               proxied={"haproxy": {200, 400}})
    yield Case("host-twice-other", get(b"Host: other.example\r\n", b"SMUGGLED"), {400}, hidden=False)
    yield Case("host-none", get(b"", b"SMUGGLED", host=b""), {400}, hidden=False)
    yield Case("host-empty", get(b"", b"", host=b"Host:\r\n"), {400}, hidden=False,
               proxied={"nginx": {200, 400}})
    yield Case("host-blank", get(b"", b"SMUGGLED", host=b"Host: local host\r\n"), {400}, hidden=False)
    yield Case("host-none-1-0", get(host=b"", version=b"HTTP/1.0"), {200, 400, 421}, hidden=False)


def methods():
    yield Case("method-odd", get(b"", b"SMUGGLED", method=b"FROB"), {501, 405}, hidden=False)
    yield Case("method-lower", get(b"", b"SMUGGLED", method=b"get"), {501, 405}, hidden=False)
    yield Case("method-trace", get(method=b"TRACE"), {405, 501}, ends=False)
    yield Case("method-connect", get(b"", b"SMUGGLED", method=b"CONNECT", target=b"localhost:80"), {400, 405, 501},
               hidden=False)
    yield Case("method-head", get(method=b"HEAD"), {200}, ends=False, head=True)
    yield Case("options-star", get(method=b"OPTIONS", target=b"*"), {200, 204}, ends=False,
               proxied={"nginx": {200, 204, 400, 404, 405}})
    yield Case("get-star", get(b"", b"SMUGGLED", target=b"*"), {400}, hidden=False)
    yield Case("get-with-body", get(b"Content-Length: 3\r\n", b"abc"), {200, 400}, ends=False)
    yield Case("version-1-2", get(b"", b"SMUGGLED", version=b"HTTP/1.2"), {400, 505}, hidden=False,
               proxied={"nginx": {200, 400, 505}, "haproxy": {200, 400, 505}})  # they speak 1.1 to the program
    yield Case("version-2-0", get(b"", b"SMUGGLED", version=b"HTTP/2.0"), {400, 505}, hidden=False,
               proxied={"haproxy": {200, 400, 505}})
    yield Case("version-lower", get(b"", b"SMUGGLED", version=b"http/1.1"), {400, 505}, hidden=False)
    yield Case("version-0-9", b"GET /livez\r\n", {400, 505} | CLOSED, hidden=False,
               proxied={"nginx": {200, 400} | CLOSED})


def targets():
    yield Case("absolute-form", get(target=b"http://localhost/livez"), {200, 400}, ends=False)
    yield Case("absolute-other", get(target=b"http://evil.example/livez"), {200, 400, 404, 421}, ends=False)
    yield Case("percent-00", get(target=b"/livez%00x"), {400}, ends=False)
    yield Case("percent-zz", get(target=b"/livez%zz"), {400}, ends=False)
    yield Case("percent-2f", get(target=b"/v1%2Fprojects"), {404}, ends=False,
               proxied={"nginx": {404}, "haproxy": {404}})
    yield Case("dots-encoded", get(target=b"/v1/%2e%2e/livez"), {404}, ends=False)
    yield Case("dots-twice-encoded", get(target=b"/v1/%252e%252e/livez"), {404}, ends=False)
    yield Case("backslash", get(target=b"/v1\\..\\livez"), {400, 404}, ends=False)
    yield Case("control-in-target", get(b"", b"SMUGGLED", target=b"/li\x01vez"), {400}, hidden=False)
    yield Case("nul-in-target", get(b"", b"SMUGGLED", target=b"/livez\0x"), {400} | CLOSED, hidden=False)
    yield Case("blank-in-target", get(b"", b"SMUGGLED", target=b"/li vez"), {400} | CLOSED, hidden=False)
    yield Case("blanks-around-target", get(b"", b"SMUGGLED", target=b" /livez "), {400} | CLOSED, hidden=False,
               proxied={"nginx": {200, 400}, "haproxy": {200, 400}})
    yield Case("no-slash", get(b"", b"SMUGGLED", target=b"livez"), {400, 404}, hidden=False)
    yield Case("1000-parameters", get(target=b"/livez?" + b"&".join(b"a%d=1" % i for i in range(1000))), {400}, ends=False)
    yield Case("5000-parameters", get(b"", b"SMUGGLED", target=b"/livez?" + b"&".join(b"a=1" for i in range(5000))),
               {414, 400, 431}, hidden=False)
    yield Case("uri-20-kb", get(target=b"/" + b"x" * 20000), {404, 414}, ends=False)
    yield Case("uri-200-kb", get(b"", b"SMUGGLED", target=b"/" + b"x" * 200000), {414, 400, 431} | CLOSED, hidden=False)
    yield Case("header-20-kb", get(b"X-A: " + b"x" * 20000 + b"\r\n"), {200, 431}, ends=False,
               proxied={"nginx": {200, 400, 431}, "haproxy": {200, 400, 431}})
    yield Case("header-200-kb", get(b"X-A: " + b"x" * 200000 + b"\r\n", b"SMUGGLED"), {431, 413, 400} | CLOSED, hidden=False)


def bodies():
    large = b"Content-Length: 9000000000\r\n"
    yield Case("expect-unknown", get(b"Expect: 200-ok\r\n", b""), {417}, hidden=False, proxied={"nginx": {200, 417}})
    yield Case("expect-too-large", post("expect-too-large", large + b"Expect: 100-continue\r\n", b""), {413}, hidden=False)
    yield Case("too-large", post("too-large", large, b"SMUGGLED"), {413})
    yield Case("good-bad-good", get() + get(HOST, b"SMUGGLED"), {400}, answers=2, hidden=False,
               proxied={"haproxy": {200, 400}})


CASES = [*lengths(), *chunks(), *lines(), *hosts(), *methods(), *targets(), *bodies()]


# ---- sending and reading ---------------------------------------------------------------------------------------------


def split_answers(data, head=False):
    """[(status, header text, body)] of the bytes that came; ValueError when they are no whole answers."""
    found = []
    while data:
        if found and re.search(r"(?im)^connection:\s*close", found[-1][1]) and b"HTTP/1." not in data:
            break  # 0.9.75 writes the head of its own answers twice: the end of the page is left over
        cut = data.find(b"\r\n\r\n")
        if not found and not data.startswith(b"HTTP/"):
            return [(0, "", data)]  # of HTTP/0.9
        match = re.match(rb"HTTP/1\.[01] (\d{3})[ \r]", data)
        if match is None or cut < 0:
            raise ValueError("not an answer: %r" % data[:200])
        status, headers, data = int(match.group(1)), data[:cut].decode("latin-1"), data[cut + 4 :]
        if 100 <= status < 200:
            continue
        length = re.search(r"(?im)^content-length:\s*(\d+)", headers)
        if head or status in (204, 304):
            body = b""
        elif length is not None:
            body, data = data[: int(length.group(1))], data[int(length.group(1)) :]
            if len(body) < int(length.group(1)):
                raise ValueError("an answer was cut: %r" % body[:200])
        elif re.search(r"(?im)^transfer-encoding:\s*chunked", headers):
            body = b""
            while True:
                size, _, data = data.partition(b"\r\n")
                n = int(size, 16)
                body, data = body + data[:n], data[n + 2 :]
                if n == 0:
                    break
        else:
            body, data = data, b""
        found.append((status, headers, body))
    return found


def whole(data, answers, head):
    try:
        return len(split_answers(data, head)) >= answers
    except (ValueError, IndexError):
        return False


def exchange(port, case, patient):
    """(answers, ended, alive): what came, whether the connection ended by itself, whether it took another request.
    patient: wait for the end also after an answer; a proxy may keep its client's connection."""
    data, ended, alive = b"", False, False
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        end = time.monotonic() + PATIENCE
        try:
            connection.sendall(case.raw)
        except OSError:
            pass  # refused in the middle: the answer may still be there
        asked = False
        while time.monotonic() < end:
            enough = not patient and whole(data, case.answers, case.head)
            connection.settimeout(0.5 if enough else max(0.01, end - time.monotonic()))
            try:
                piece = connection.recv(65536)
            except socket.timeout:
                break
            except OSError:
                ended = True
                break
            if not piece:
                ended = True
                break
            data += piece
            if patient and not case.ends and not asked and whole(data, case.answers, case.head):
                asked = True
                before = len(data)
                try:
                    connection.sendall(get(b"Connection: close\r\n"))
                except OSError:
                    pass
        if asked:
            alive = data[before:].startswith(b"HTTP/1.1 200")
            data = data[:before]
    return split_answers(data, case.head), ended, alive


def verdict(port, case, setup="direct"):
    """None when all is as wanted, otherwise what is wrong (without the log, which second_requests reads)."""
    try:
        answers, ended, alive = exchange(port, case, setup == "direct")
    except ValueError as error:
        return str(error)
    if not ended and (setup == "direct" or not answers):
        return "hangs after %r" % [a[0] for a in answers]
    statuses = [a[0] for a in answers] or [0]
    if setup == "direct" and len(statuses) != case.answers:
        return "answers %r, wanted %d" % (statuses, case.answers)
    last = statuses[min(case.answers, len(statuses)) - 1]
    if last not in case.wanted(setup):
        return "status %r, wanted %s" % (statuses, "a refusal" if len(case.wanted(setup)) > 99 else case.wanted(setup))
    if setup == "direct" and not case.ends and not alive and last in OK:
        return "the connection did not take another request after %d" % last
    return None


def second_requests(log, cases, setup="direct"):
    """Names of the cases whose second request the program has taken for one, though it must not."""
    seen = set(re.findall(r"second-([a-z0-9-]+)", log))
    return sorted(case.name for case in cases if case.name in seen and (case.hidden or setup == "direct"))
