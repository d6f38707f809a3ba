"""Downloads from servers that refuse, break off, lie, or never end: each is a sentence with its reason, and nothing is left."""

from __future__ import annotations

import gzip
import hashlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.data import download, transfer
from benchmarks.data.download import RemoteFile
from benchmarks.errors import TaskError

DATA = random.Random(0).randbytes(300_000)
PIN = f"md5:{hashlib.md5(DATA).hexdigest()}"
IDENTITY = Path(__file__).with_name("localhost.pem")  # a self-signed certificate for this machine and its key
Headers = dict[str, str] | list[tuple[str, str]]


class Request(BaseHTTPRequestHandler):
    def send(self, status: int = 200, headers: Headers | None = None, body: bytes = DATA) -> None:
        """Exactly these headers; without a Content-Length, the end of the connection ends the body."""
        self.send_response_only(status)
        headers = {"Content-Length": str(len(body))} if headers is None else headers
        for key, value in headers.items() if isinstance(headers, dict) else headers:
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, data: bytes, count: int = 600) -> None:
        """Send the same bytes again and again, slowly, for three seconds at most."""
        for _ in range(count):
            self.wfile.write(data)
            time.sleep(0.005)

    def log_message(self, *_: object) -> None:
        pass


class Site:
    """A server on this machine: what it does with each path, and what it was asked."""

    def __init__(self, **behaviour: Callable[[Request], None]) -> None:
        self.behaviour, self.asked = behaviour, list[tuple[str, str | None]]()

    def start(self, context: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
        site = self

        class Handler(Request):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers["Range"]))
                try:
                    site.behaviour[self.path.split("/")[1]](self)
                except OSError:  # the other side has hung up
                    self.close_connection = True

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass

        http = Quiet(("127.0.0.1", 0), Handler)
        if context:
            http.socket = context.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        scheme = "https" if context else "http"
        self.address = f"{scheme}://127.0.0.1:{http.server_port}"
        return http


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("RATEBENCH_MIRROR", raising=False)
    found = Site(good=Request.send)
    with found.start() as http:
        yield found
        http.shutdown()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, none of which is slept."""
    slept: list[float] = []
    ours, sleep = threading.current_thread(), time.sleep

    def note(seconds: float) -> None:
        slept.append(seconds) if threading.current_thread() is ours else sleep(seconds)

    monkeypatch.setattr(time, "sleep", note)
    return slept


def fetched(url: str, most: int = 1 << 20) -> bytes:
    return download.fetch(RemoteFile("data.bin", f"{url}/data.bin", PIN, most=most)).read_bytes()


def refusal(url: str, most: int = 1 << 20) -> str:
    with pytest.raises(TaskError) as caught:
        fetched(url, most)
    said = str(caught.value)
    assert "\n" not in said and said.endswith("set RATEBENCH_MIRROR to a folder that holds data.bin")
    return said


def left(tmp_path: Path) -> set[str]:
    return {p.name for p in (tmp_path / "cache").rglob("*") if p.suffix != ".lock"}


@pytest.mark.parametrize(
    ("status", "reason", "tries"),
    [
        (403, "HTTP 403 Forbidden", 1),
        (404, "HTTP 404 Not Found", 1),
        (410, "HTTP 410 Gone", 1),
        (204, "HTTP 204 No Content", 1),
        (429, "HTTP 429 Too Many Requests", 4),
        (500, "HTTP 500 Internal Server Error", 4),
        (503, "HTTP 503 Service Unavailable", 4),
        (599, "HTTP 599", 4),
    ],
)
def test_a_status_is_told_and_what_can_pass_is_tried_again(
    site: Site, tmp_path: Path, pauses: list[float], status: int, reason: str, tries: int
) -> None:
    site.behaviour["bad"] = lambda request: request.send(status, body=b"")
    assert f"{site.address}/bad/data.bin ({reason}) and RATEBENCH_MIRROR is not set" in refusal(f"{site.address}/bad")
    assert len(site.asked) == tries and pauses == list(transfer.PAUSES)[: tries - 1] and not left(tmp_path)


@pytest.mark.parametrize(
    ("said", "waited"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (formatdate(0, usegmt=True), 0.0),
        ("soon", transfer.PAUSES[0]),
        ("-3", transfer.PAUSES[0]),
    ],
)
def test_a_server_says_how_long_to_wait(site: Site, pauses: list[float], said: str, waited: float) -> None:
    answers = iter([lambda r: r.send(503, {"Retry-After": said}, b""), Request.send])
    site.behaviour["busy"] = lambda request: next(answers)(request)
    assert fetched(f"{site.address}/busy") == DATA
    assert pauses == [waited]


def test_nobody_waits_for_an_hour(site: Site, pauses: list[float]) -> None:
    site.behaviour["busy"] = lambda request: request.send(429, {"Retry-After": "3600"}, b"")
    assert "HTTP 429 Too Many Requests, asks to wait 3600 s" in refusal(f"{site.address}/busy")
    assert not pauses and len(site.asked) == 1


def test_a_broken_connection_goes_on_where_it_broke(site: Site, pauses: list[float]) -> None:
    def breaking(request: Request) -> None:
        start = int((request.headers["Range"] or "bytes=0-")[6:-1])
        length = str(len(DATA) - start)
        place = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
        request.send(206 if start else 200, {"Content-Length": length, "Content-Range": place}, DATA[start:][:100_000])

    site.behaviour["breaks"] = breaking
    assert fetched(f"{site.address}/breaks") == DATA
    assert [wanted for _, wanted in site.asked] == [None, "bytes=100000-", "bytes=200000-"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda r: r.send(206, {"Content-Range": f"bytes 7-{len(DATA) - 1}/{len(DATA)}"}, DATA[7:]),  # another part
        lambda r: r.send(416, body=b""),
    ],
)
def test_a_part_that_can_not_be_continued_starts_again(
    site: Site, tmp_path: Path, answer: Callable[[Request], None]
) -> None:
    site.behaviour["odd"] = lambda r: answer(r) if r.headers["Range"] else r.send()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/data.bin.part").write_bytes(DATA[:1000])
    assert fetched(f"{site.address}/odd") == DATA and left(tmp_path) == {"data.bin"}


def test_another_part_than_was_asked_for_is_not_appended(site: Site) -> None:
    """In the same download, after a broken connection."""
    wrong = {"Content-Range": f"bytes 7-{len(DATA) - 1}/{len(DATA)}"}
    broken = {"Content-Length": str(len(DATA))}
    answers = iter(
        [lambda r: r.send(headers=broken, body=DATA[:1000]), lambda r: r.send(206, wrong, DATA[7:]), Request.send]
    )
    site.behaviour["odd"] = lambda request: next(answers)(request)
    assert fetched(f"{site.address}/odd") == DATA
    assert [wanted for _, wanted in site.asked] == [None, "bytes=1000-", None]


@pytest.mark.parametrize("old", [b"of another file", DATA + b"more", bytes(2 << 20)])
def test_a_part_of_another_file_does_no_harm(site: Site, tmp_path: Path, old: bytes) -> None:
    def ranged(request: Request) -> None:
        start = int((request.headers["Range"] or "bytes=0-")[6:-1])
        request.send(416 if start >= len(DATA) else 206 if start else 200, body=DATA[start:])

    site.behaviour["ranged"] = ranged
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/data.bin.part").write_bytes(old)
    assert fetched(f"{site.address}/ranged") == DATA and left(tmp_path) == {"data.bin"}


LENGTH = "Content-Length"
ODD: list[tuple[Headers, str]] = [
    ({}, ""),
    ({LENGTH: "-5"}, ""),
    ({LENGTH: "abc"}, ""),
    ([(LENGTH, str(len(DATA)))] * 2, ""),
    ([(LENGTH, "5"), (LENGTH, "7")], "its headers contradict each other"),
    ({LENGTH: "299999"}, "the download of data.bin has hash"),
    ({LENGTH: "300001"}, "the connection broke"),
    ({LENGTH: str(1 << 60)}, "announces 1,152,921,504,606,846,976 bytes; the file has at most 1,048,576"),
]


@pytest.mark.parametrize(("headers", "reason"), ODD)
def test_an_odd_length_is_no_traceback(site: Site, tmp_path: Path, headers: Headers, reason: str) -> None:
    site.behaviour["odd"] = lambda request: request.send(headers=headers)
    if not reason:
        assert fetched(f"{site.address}/odd") == DATA and left(tmp_path) == {"data.bin"}
    else:
        assert reason in refusal(f"{site.address}/odd")
        assert left(tmp_path) <= {"data.bin.part"}


def test_a_body_without_an_end_stops_at_the_limit(site: Site, tmp_path: Path) -> None:
    sent: list[int] = []

    def endless(request: Request) -> None:
        request.send(headers={}, body=b"")
        for _ in range(10_000):
            request.wfile.write(DATA)
            sent.append(len(DATA))

    site.behaviour["endless"] = endless
    assert "sends more than 1,048,576 bytes, the most for this file" in refusal(f"{site.address}/endless")
    assert sum(sent) < 1 << 28 and not left(tmp_path)


def test_a_server_that_trickles_is_left(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "WINDOW", 0.2)
    site.behaviour["slow"] = lambda r: (r.send(headers={}, body=b"x"), r.drip(b"x"))[0]
    assert "sends fewer than 1,000 bytes per second" in refusal(f"{site.address}/slow")
    assert len(site.asked) == 1 and not left(tmp_path)


def test_a_file_has_a_total_time(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "TOTAL", 0.2)
    site.behaviour["slow"] = lambda r: (r.send(headers={}, body=b"x"), r.drip(bytes(1000)))[0]
    assert "takes longer than" in refusal(f"{site.address}/slow")
    assert not left(tmp_path)


def test_a_body_that_never_ends_its_last_lines_is_left(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trailer after the last chunk: the library reads it within one call, which no limit of pieces ends."""
    monkeypatch.setattr(transfer, "WINDOW", 0.2)
    chunked = {"Transfer-Encoding": "chunked"}
    site.behaviour["slow"] = lambda r: (r.send(headers=chunked, body=b"5\r\nhello\r\n0\r\n"), r.drip(b"X: y\r\n"))[0]
    assert "sends nothing more for 0.2 s" in refusal(f"{site.address}/slow")


def test_a_redirect_to_no_address_is_a_sentence(site: Site) -> None:
    site.behaviour["away"] = lambda r: r.send(302, headers={"Location": "http://[::1"}, body=b"")
    assert "is, or redirects to, no usable address" in refusal(f"{site.address}/away")


def test_headers_that_trickle_are_a_timeout(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "WINDOW", 0.2)
    site.behaviour["slow"] = lambda r: (r.wfile.write(b"HTTP/1.1 200 OK\r\nX: "), r.drip(b"x"))[0]
    assert "no complete answer within 0.2 s" in refusal(f"{site.address}/slow")
    assert len(site.asked) == 4


@pytest.mark.parametrize("begun", [False, True])
def test_silence_is_a_timeout(site: Site, begun: bool, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT", 0.1)
    over = threading.Event()
    headers = {LENGTH: str(len(DATA))}
    site.behaviour["silent"] = lambda r: (r.send(headers=headers, body=DATA[:1000]) if begun else None, over.wait(20))[
        0
    ]
    assert "no answer within 0.1 s" in refusal(f"{site.address}/silent")
    over.set()
    assert pauses == list(transfer.PAUSES)


def test_nobody_there(site: Site, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert f"{address}/data.bin (connection refused)" in refusal(address)

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "(the name of the server can't be resolved (DNS))" in refusal("http://official.invalid")
    assert not pauses


def test_addresses_that_are_none(site: Site) -> None:
    for address in ("http://", "http://[", "gopher://there", f"http://{'a' * 300}"):
        refusal(address)


@pytest.fixture
def secure(site: Site) -> Iterator[Site]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(IDENTITY)
    found = Site(good=Request.send, back=lambda r: r.send(302, {"Location": f"{site.address}/good/data.bin"}, b""))
    with found.start(context) as http:
        yield found
        http.shutdown()


def test_certificates_are_checked(site: Site, secure: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "(TLS error: self-signed certificate)" in refusal(f"{secure.address}/good")
    assert "TLS error: " in refusal(site.address.replace("http:", "https:"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(IDENTITY))
    site.behaviour["up"] = lambda r: r.send(302, {"Location": f"{secure.address}/good/data.bin"}, b"")
    assert fetched(f"{site.address}/up") == DATA


def test_no_redirect_leads_to_a_less_secure_place(
    site: Site, secure: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(IDENTITY))
    assert f"redirects to '{site.address}/good/data.bin', which is not secure" in refusal(f"{secure.address}/back")
    (tmp_path / "local").write_bytes(DATA)
    for target in (f"file://{tmp_path}/local", "ftp://there/data.bin"):
        site.behaviour["away"] = lambda r, target=target: r.send(301, {"Location": target}, b"")  # type: ignore[misc]
        assert f"redirects to '{target}'" in refusal(f"{site.address}/away")
    assert not any(path == "/good/data.bin" for path, _ in site.asked)


def test_redirects_are_followed_but_not_for_ever(site: Site) -> None:
    site.behaviour["moved"] = lambda r: r.send(307, {"Location": "/good/data.bin"}, b"")
    assert fetched(f"{site.address}/moved") == DATA
    (download.storage.cache_folder() / "data.bin").unlink()
    site.behaviour["loop"] = lambda r: r.send(302, {"Location": "/loop/data.bin"}, b"")
    assert "redirects more than 10 times" in refusal(f"{site.address}/loop")


def test_a_body_that_was_compressed_for_the_way_is_decoded(site: Site, tmp_path: Path) -> None:
    encoded = {"Content-Encoding": "gzip"}
    site.behaviour["zipped"] = lambda r: r.send(headers=encoded, body=gzip.compress(DATA))
    assert fetched(f"{site.address}/zipped") == DATA and left(tmp_path) == {"data.bin"}
    (tmp_path / "cache/data.bin").unlink()
    site.behaviour["named"] = lambda r: r.send(headers=encoded)  # the file itself, wrongly called encoded
    assert fetched(f"{site.address}/named") == DATA
    (tmp_path / "cache/data.bin").unlink()
    site.behaviour["bomb"] = lambda r: r.send(headers=encoded, body=gzip.compress(bytes(50 << 20)))
    assert "the download of data.bin has hash" in refusal(f"{site.address}/bomb")
    assert not left(tmp_path)


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><title>Log in</title>", b"\xef\xbb\xbf \n<HTML>"])
def test_a_login_page_is_told(site: Site, tmp_path: Path, page: bytes) -> None:
    site.behaviour["login"] = lambda r: r.send(body=page)
    assert "the server sent a web page, perhaps a login or an error page, in place of data.bin" in refusal(
        f"{site.address}/login"
    )
    assert not left(tmp_path)
