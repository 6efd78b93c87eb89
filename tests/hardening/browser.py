#!/usr/bin/env python3
"""Names made to hurt, on the dashboard, in a real browser: none of them may run, load or become an element.

    browser.py --binary build/annotmixd [--chromium PROGRAM]

A hundred names are titles of projects, and annotators, classes and instances of one of them. Chromium (headless) opens
the list and the project and prints the page as it stands afterwards. Every name must be there as text; a name that ran
would have left a mark on the document, told the console, or asked a server of the test for an address. The same names
are first put into a page that is careless on purpose: there the marks must be seen, or the test would prove nothing.
Skipped without Chromium.
"""
import argparse
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fault"))
from campaign import report  # noqa: E402
from server import Server  # noqa: E402

FIRE = "document.documentElement.setAttribute('data-fired','1')"
# %s: code that leaves the mark; @: the address of the test's own server.
SHAPES = (
    "<script>%s</script>", "<img src=x onerror=%s>", "\"><img src=x onerror=%s>", "'><svg onload=%s>", "<svg><script>%s</script></svg>",
    "<body onload=%s>", "<iframe src=javascript:%s>", "<a href=javascript:%s autofocus onfocus=%s>x</a>", "<details open ontoggle=%s>",
    "<input autofocus onfocus=%s>", "<video><source onerror=%s>", "<audio src=x onerror=%s>", "<object data=javascript:%s>",
    "</td><td onmouseover=%s><script>%s</script>", "</title><script>%s</script>", "<math><mtext></p><style><img src=x onerror=%s>",
    "javascript:%s", "data:text/html,<script>%s</script>", "<style>@import '@/css'</style>", "<link rel=stylesheet href=@/link>",
    "<img src=@/img>", "<script src=@/script></script>", "<base href=@/>", "<meta http-equiv=refresh content='0;url=@/meta'>",
    "<form action=@/form><button autofocus>x",
)  # fmt: skip
WAYS = (str, lambda s: s.replace("<", "&lt;").replace(">", "&gt;"), str.swapcase, lambda s: "x" + s + "<!--")
ALLOWED = set("""html head meta title link script body header h1 h2 h3 main section div a dl dt dd table thead tbody tr th td meter
progress button p form label input footer span pre code noscript""".split())


class Page(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.sources, self.fired = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href", "action", "data") and v]
        self.sources += [k for k, _ in attrs if k.startswith("on")]
        self.fired = self.fired or "data-fired" in dict(attrs)

    def handle_data(self, data):
        self.text.append(data)


class Careless(http.server.ThreadingHTTPServer):
    """A page that puts names into innerHTML, and a note of every other address that was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.names, self.asked, self.address = [], [], f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def page(self):
        # A refresh would lead away from the page before its marks are read.
        names = json.dumps([n for n in self.names if "refresh" not in n.lower()]).replace("</", "<\\/").replace("<!--", "<\\!--")
        return ("<!doctype html><body><script>for (const n of " + names +
                ") { const p = document.createElement('p'); p.innerHTML = n; document.body.append(p); }</script>").encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/page":
                self.server.asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(self.server.page() if self.path == "/page" else b"")

        def log_message(self, *words):
            pass


def look(chromium, url):
    """(the page after its scripts, what the console said)"""
    with tempfile.TemporaryDirectory(prefix="annotmix-browser-") as folder:
        done = subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                               "--disable-background-networking", "--user-data-dir=" + folder, "--enable-logging=stderr",
                               "--virtual-time-budget=6000", "--dump-dom", url],
                              capture_output=True, timeout=120, check=False)
    console = [line for line in done.stderr.decode(errors="replace").splitlines() if ":CONSOLE" in line]
    return Page(done.stdout.decode(errors="replace")), console


def names_of(address):
    shapes = [s.replace("%s", FIRE).replace("@", address) for s in SHAPES]
    return list(dict.fromkeys(way(shape)[:255] for way in WAYS for shape in shapes))


def fill(server, names):
    for n, name in enumerate(names):
        server.must("POST", "/v1/projects", {"name": f"p{n}", "title": name, "classes": ["x", "y"], "feature_dim": 0})
    server.must("POST", "/v1/projects", {"name": "all", "title": names[0], "classes": names, "feature_dim": 0})
    server.must("POST", "/v1/projects/all/instances", {"instances": [
        {"id": name, "labels": [{"annotator": name, "class": name}]} for name in names]})


def judge(what, page, console, names, asked):
    text = "".join(page.text)
    missing = [name for name in names if name not in text]
    foreign = sorted(set(page.elements) - ALLOWED)
    sources = [s for s in page.sources if not s.startswith(("/", "#"))]
    return [
        (f"{what}: {len(names)} names are shown, as text {missing[:2] or ''}", not missing),
        (f"{what}: no name ran, told the console or reached a server {console[:2] or ''}{asked or ''}",
         not page.fired and not console and not asked),
        (f"{what}: no element, script or handler of theirs {foreign or ''}{sources or ''}",
         not foreign and not sources and page.elements.count("script") == 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    arguments = parser.parse_args()
    if not arguments.chromium:
        print("skipped: names in a real browser: no chromium\n0 passed, 0 failed, 1 skipped")
        return 0
    careless = Careless()
    names = careless.names = names_of(careless.address)
    page, _ = look(arguments.chromium, careless.address + "/page")
    checks = [("the marks are seen where a page is careless", page.fired and bool(careless.asked))]
    with tempfile.TemporaryDirectory(prefix="annotmix-browser-") as folder:
        server = Server(arguments.binary, Path(folder) / "b.db", "--auth", "none")
        try:
            fill(server, names)
            for what, hash_ in (("the list", ""), ("the project", "#all")):
                careless.asked.clear()
                page, console = look(arguments.chromium, f"{server.url}/{hash_}")
                checks += judge(what, page, console, names, careless.asked)
        finally:
            server.kill()
    return report(checks)


if __name__ == "__main__":
    sys.exit(main())
