"""One file over HTTP(S), into a `.part` file that a later try continues.

Every failure has a reason. Failures that can pass (5xx, 429, timeouts, broken connections) are tried again after a pause. Time
and size are limited whatever the server does: it may send its headers byte by byte, or a body without an end.
"""

from __future__ import annotations

import contextlib
import http
import queue
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

__fingerprint__ = False  # fetched files are checked by hash

PAUSES = (1.0, 4.0, 16.0)  # seconds before the second, third and fourth try
LONGEST_PAUSE = 60.0  # seconds, if the server asks for a pause
TIMEOUT = 30.0  # seconds without a byte
WINDOW, SLOWEST = 60.0, 1_000  # seconds, and bytes per second on average over each of these periods
TOTAL = 6 * 3600.0  # seconds for one file, all tries together
REDIRECTS = 10
_CHUNK = 1 << 16
_SMALL = 1 << 20  # bytes: a smaller part of a slow download is not worth keeping
_T = TypeVar("_T")


class Failed(Exception):
    """A server did not give the file; the text is the reason. `passing`: another try can succeed, after `pause` seconds."""

    def __init__(self, reason: str, passing: bool = False, pause: float | None = None) -> None:
        super().__init__(reason)
        self.passing, self.pause = passing, pause


def get(url: str, part: Path, most: int, name: str) -> str:
    """Fetch at most `most` bytes into `part`, continuing what is there; returns the body's content encoding.

    Raises Failed with the reason, and OSError if `part` can't be written. After a failure, `part` is kept only if it can be
    continued.
    """
    begin = time.monotonic()
    for pause in (*PAUSES, None):
        try:
            return _once(url, part, most, name, begin + TOTAL)
        except Failed as failure:
            if not failure.passing or pause is None:
                raise
            wanted = pause if failure.pause is None else failure.pause
            if wanted > LONGEST_PAUSE:
                msg = f"{failure}, asks to wait {wanted:.0f} s"
                raise Failed(msg) from failure
            if time.monotonic() + wanted > begin + TOTAL:
                raise
            time.sleep(wanted)
    raise AssertionError


def _once(url: str, part: Path, most: int, name: str, end: float) -> str:
    done = part.stat().st_size if part.exists() else 0
    if done > most:
        part.unlink()
        done = 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with _reasons(), requests.Session() as session, _within(WINDOW, lambda: _answer(session, url, headers)) as answer:
        if done and answer.status_code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return ""  # nothing follows: the caller checks the hash
        _check_status(answer)
        start = _start(answer, done)
        if start not in (0, done):
            part.unlink(missing_ok=True)
            raise Failed("sent another part of the file than was asked for", passing=True)
        _stream(answer, part, start, most, name, end)
        return str(answer.headers.get("Content-Encoding", "")).strip().lower()


def _within(seconds: float, work: Callable[[], _T]) -> _T:
    """The result of `work`, which a thread does: a server that sends headers byte by byte never reaches a timeout."""
    results: queue.SimpleQueue[tuple[_T | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except Exception as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        msg = f"no complete answer within {seconds:g} s"
        raise Failed(msg, passing=True) from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # there is one without an error


def _answer(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    """The answer after all redirects, none of which leads away from https or to another scheme than http."""
    for _ in range(REDIRECTS + 1):
        answer = session.get(url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False)
        target = session.get_redirect_target(answer)
        if target is None:
            return answer
        answer.close()
        before, url = url, urljoin(url, target)
        if (scheme := urlsplit(url).scheme) != "https" and (scheme != "http" or before.startswith("https:")):
            msg = (
                f"redirects to {url[:200]!r}, which is not secure"
                if scheme == "http"
                else f"redirects to {url[:200]!r}"
            )
            raise Failed(msg)
    msg = f"redirects more than {REDIRECTS} times"
    raise Failed(msg)


def _check_status(answer: requests.Response) -> None:
    code = answer.status_code
    if code in (http.HTTPStatus.OK, http.HTTPStatus.PARTIAL_CONTENT):
        return
    known = next((status.phrase for status in http.HTTPStatus if status == code), "")
    passing = code >= 500 or code in (http.HTTPStatus.TOO_MANY_REQUESTS, http.HTTPStatus.REQUEST_TIMEOUT)
    raise Failed(f"HTTP {code} {known}".strip(), passing, _retry_after(answer.headers.get("Retry-After", "")))


def _retry_after(text: str) -> float | None:
    """The seconds that a server asks to wait, given as such or as a date; None if it does not."""
    if re.fullmatch(r"\d{1,9}", text.strip()):
        return float(text)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _start(answer: requests.Response, asked: int) -> int:
    """The position of the body's first byte in the file: the one asked for, if a partial answer says nothing."""
    if answer.status_code == http.HTTPStatus.OK:
        return 0
    said = re.match(r"bytes (\d{1,18})-", answer.headers.get("Content-Range", ""))
    return int(said[1]) if said else asked


def _stream(answer: requests.Response, part: Path, start: int, most: int, name: str, end: float) -> None:
    """Write the body behind `start`; removes `part` if it gets too long or can't be written."""
    length = answer.raw.length_remaining  # None if the header is missing, negative or not a number
    total = None if length is None else start + length
    try:
        if total is not None and total > most:
            msg = f"announces {total:,} bytes; the file has at most {most:,}"
            raise Failed(msg)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns) as progress, part.open("ab" if start else "wb") as out:
            bar = progress.add_task(name, total=total, completed=start)
            for chunk in _in_time(answer, end):
                start += len(chunk)
                if start > most:
                    msg = f"sends more than {most:,} bytes, the most for this file"
                    raise Failed(msg)
                out.write(chunk)
                progress.advance(bar, len(chunk))
    except TooSlow:
        if start < _SMALL:
            part.unlink(missing_ok=True)
        raise
    except (Failed, OSError):
        part.unlink(missing_ok=True)
        raise


class TooSlow(Failed):
    """The server sends, but too slowly."""


def _in_time(answer: requests.Response, end: float) -> Iterator[bytes]:
    """The pieces of the body as they arrive; raises TooSlow at the time `end`, or if a period brings too few bytes."""
    since, received = time.monotonic(), 0
    for chunk in _pieces(answer):
        yield chunk
        received += len(chunk)
        now = time.monotonic()
        if now > end:
            msg = f"takes longer than {TOTAL / 3600:g} hours"
            raise TooSlow(msg)
        if now - since > WINDOW:
            if received < SLOWEST * (now - since):
                msg = f"sends fewer than {SLOWEST:,} bytes per second"
                raise TooSlow(msg)
            since, received = now, 0


def _pieces(answer: requests.Response) -> Iterator[bytes]:
    """The pieces of the body, which a thread reads: a body can end in lines of which no piece comes, and that do not end."""
    arrived: queue.Queue[bytes | Exception] = queue.Queue(maxsize=16)

    def read() -> None:
        with contextlib.suppress(queue.Full):  # nobody waits for pieces any more
            try:
                while chunk := answer.raw.read1(_CHUNK, decode_content=False):
                    arrived.put(chunk, timeout=WINDOW)
                arrived.put(b"", timeout=WINDOW)
            except Exception as error:
                arrived.put(error, timeout=WINDOW)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            piece = arrived.get(timeout=WINDOW)
        except queue.Empty:
            msg = f"sends nothing more for {WINDOW:g} s"
            raise TooSlow(msg, passing=True) from None
        if isinstance(piece, Exception):
            raise piece
        if not piece:
            return
        yield piece


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """Turns what the HTTP libraries raise into Failed, with the reason that their exceptions wrap."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _reason(error) from error
    except ValueError as error:  # an address that can't be encoded or taken apart, perhaps that of a redirect
        raise Failed("is, or redirects to, no usable address") from error


def _reason(error: Exception) -> Failed:
    causes = list(_causes(error))

    def first(*kinds: type[BaseException]) -> BaseException | None:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    through = "through the proxy: " if first(requests.exceptions.ProxyError, urllib3.exceptions.ProxyError) else ""
    if first(urllib3.exceptions.NameResolutionError):
        return Failed(f"{through}the name of the server can't be resolved (DNS)")
    if tls := first(ssl.SSLError) or first(urllib3.exceptions.SSLError, requests.exceptions.SSLError):
        said = getattr(tls, "verify_message", "") or getattr(tls, "reason", "") or str(tls)
        return Failed(f"{through}TLS error: {said}")
    if first(ConnectionRefusedError):
        return Failed(f"{through}connection refused")
    if first(requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
        return Failed(f"{through}no answer within {TIMEOUT:g} s", passing=True)
    if first(requests.exceptions.InvalidHeader, urllib3.exceptions.InvalidHeader):
        return Failed("its headers contradict each other")
    if first(requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
        return Failed("is not a usable address")
    if first(urllib3.exceptions.ProtocolError, requests.exceptions.ChunkedEncodingError, ConnectionError):
        return Failed(f"{through}the connection broke", passing=True)
    said = next((cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror), "")
    return Failed(through + (said or f"{type(error).__name__}: {error}"))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that it wraps, in whatever way the libraries do it."""
    todo, seen = [error], set[int]()
    while todo:
        cause = todo.pop(0)
        if id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            inner = [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
            todo += [each for each in inner if isinstance(each, BaseException)]
