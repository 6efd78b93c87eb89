"""Requests as raw bytes: smuggling, framing, names and values that parsers read in different ways (raw_requests.py)."""

import socket
from concurrent.futures import ThreadPoolExecutor
from random import Random

from harness import Case, until
from raw_requests import CASES, get, second_requests, split_answers, verdict, whole


class Raw(Case):
    def test_every_request_gets_its_verdict(self):
        self.assertGreaterEqual(len(CASES), 64)
        self.assertEqual(len({case.name for case in CASES}), len(CASES))
        with ThreadPoolExecutor(8) as pool:
            wrong = list(pool.map(lambda case: verdict(self.server.port, case), CASES))
        text = "\n".join("%s: %s" % (case.name, why) for case, why in zip(CASES, wrong) if why)
        self.assertEqual(text, "")
        self.api.get("/livez", headers={"X-Request-Id": "second-seen"}, expect=200)
        log = until(lambda: "second-seen" in self.server.log() and self.server.log())  # so it would have told
        self.assertEqual(second_requests(log, CASES), [])

    def test_good_heads_are_taken_in_any_pieces(self):
        """Every byte of a head is accounted for (src/http/head.c); nothing good may look odd for its size or timing."""
        random = Random(7)
        names = (b"X-A", b"Accept", b"Cookie", b"x_b", b"User-Agent", b"!#$%&'*+-.^_`|~")
        with socket.create_connection(("127.0.0.1", self.server.port), 30) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(150):
                headers = b"".join(
                    random.choice(names)
                    + b":"
                    + random.choice((b"", b" ", b"\t ", b"   "))
                    + random.choice((b"", b"a=b; c=d", b"x" * random.choice((1, 100, 5000)), b"*/*", b"a\tb  c", b"q "))
                    + b"\r\n"
                    for _ in range(random.choice((0, 1, 5, 15)))
                )
                target = random.choice((b"/livez", b"/livez", b"/v1/?", b"/readyz?&&", b"/v1/methods?format=json"))
                raw = get(headers, b"", target=target, method=random.choice((b"GET", b"HEAD")))
                cuts = sorted(random.randrange(len(raw)) for _ in range(random.choice((0, 1, 8))))
                for begin, end in zip([0, *cuts], [*cuts, len(raw)]):
                    connection.sendall(raw[begin:end])
                data, head = b"", raw.startswith(b"HEAD")
                while not whole(data, 1, head):
                    piece = connection.recv(65536)
                    self.assertNotEqual(piece, b"", (raw[:300], data))
                    data += piece
                self.assertEqual(split_answers(data, head)[0][0], 200, (raw[:300], data))
