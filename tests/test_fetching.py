"""Downloads against a server on this machine: pinned, resumed, mirrored; every failure is a sentence."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import re
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import tasks
from benchmarks.data import download, transfer
from benchmarks.data.download import RemoteFile
from benchmarks.errors import TaskError

DATA = random.Random(0).randbytes(2_500_000)  # more than two of the pieces that a download is written in
INSIDE = {"set/train": b"pixels" * 1000, "set/test": b"other pixels" * 1000}


def _archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in {**INSIDE, "set/readme.html": b"not needed"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


ARCHIVE = _archive()


def md5(data: bytes) -> str:
    return f"md5:{hashlib.md5(data).hexdigest()}"


@dataclass
class Server:
    """What the server holds, how it behaves, and what it was asked."""

    files: dict[str, bytes]
    address: str = ""
    ranges: bool = True
    breaks_after: int | None = None
    compresses: bool = False
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def remote(self, name: str = "data.bin", known_hash: str = md5(DATA)) -> RemoteFile:
        return RemoteFile(name, f"{self.address}/{name}", known_hash)

    def archive(self, data: bytes = ARCHIVE) -> RemoteFile:
        members = {name: md5(content) for name, content in INSIDE.items()}
        return RemoteFile("set.tar.gz", f"{self.address}/set.tar.gz", md5(data), members)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server({"/data.bin": DATA, "/set.tar.gz": ARCHIVE})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            data = state.files.get(self.path)
            if data is None:
                return self.send_error(404)
            encoded = state.compresses and "gzip" in self.headers.get("Accept-Encoding", "")
            data = gzip.compress(data) if encoded else data  # a range is of what travels
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.ranges else 0
            if wanted and state.ranges and start >= len(data):
                return self.send_error(416)
            body = data[start:]
            self.send_response(206 if start else 200)
            if encoded:
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.breaks_after])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        state.address = f"http://127.0.0.1:{http.server_port}"
        monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.delenv("RATEBENCH_MIRROR", raising=False)
        yield state
        http.shutdown()


def left(tmp_path: Path) -> set[str]:
    cache = tmp_path / "cache"
    return {str(p.relative_to(cache)) for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"}


def test_a_file_is_downloaded_once_and_verified(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        assert download.fetch(server.remote()).read_bytes() == DATA
    assert len(server.asked) == 1 and left(tmp_path) == {"data.bin"}


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server) -> None:
    download.fetch(server.remote()).write_bytes(b"damaged")
    assert download.fetch(server.remote()).read_bytes() == DATA


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("compresses", [True, False])
def test_an_interrupted_download_goes_on_or_starts_over(
    server: Server, tmp_path: Path, ranges: bool, compresses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PAUSES", ())
    server.breaks_after, server.compresses = 1_500_000, compresses
    with pytest.raises(TaskError, match=r"can't download data\.bin"):
        download.fetch(server.remote())
    assert left(tmp_path) == {"data.bin.part"}
    begun = (tmp_path / "cache/data.bin.part").stat().st_size
    assert 0 < begun <= 1_500_000
    server.breaks_after, server.ranges = None, ranges
    assert download.fetch(server.remote()).read_bytes() == DATA
    assert server.asked[1] == ("/data.bin", f"bytes={begun}-") and left(tmp_path) == {"data.bin"}


def test_a_part_that_was_complete_is_accepted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/data.bin.part").write_bytes(DATA)
    assert download.fetch(server.remote()).read_bytes() == DATA


def test_a_wrong_hash_is_refused_and_the_file_removed(server: Server, tmp_path: Path) -> None:
    server.files["/data.bin"] = DATA[:-1] + b"x"
    with pytest.raises(TaskError, match=f"data.bin has hash [0-9a-f]{{32}}, not {md5(DATA)}: .* it was removed"):
        download.fetch(server.remote())
    assert not left(tmp_path)


@pytest.mark.parametrize(("prefix", "fits"), [("d2c9f1e6", False), (hashlib.sha256(DATA).hexdigest()[:8], True)])
def test_the_first_digits_of_a_hash_are_enough(server: Server, prefix: str, fits: bool) -> None:
    file = server.remote(known_hash=f"sha256:{prefix}")
    if fits:
        assert download.fetch(file).read_bytes() == DATA
    else:
        with pytest.raises(TaskError, match=f"not sha256:{prefix}"):
            download.fetch(file)


def test_an_archive_is_unpacked_to_the_members_that_are_needed(server: Server, tmp_path: Path) -> None:
    folder = download.fetch(server.archive())
    assert {name: (folder / name).read_bytes() for name in INSIDE} == INSIDE
    assert left(tmp_path) == set(INSIDE)
    (folder / "set/test").unlink()
    download.fetch(server.archive())
    assert left(tmp_path) == set(INSIDE)


def test_a_truncated_archive_is_refused(server: Server, tmp_path: Path) -> None:
    cut = ARCHIVE[: len(ARCHIVE) // 2]
    server.files["/set.tar.gz"] = cut
    with pytest.raises(TaskError, match=r"the download of set\.tar\.gz has hash .* it was removed"):
        download.fetch(server.archive())
    with pytest.raises(TaskError, match=r"^set\.tar\.gz is damaged \(.*\): fetch it again"):
        download.fetch(server.archive(cut))  # the pin itself is of a truncated archive
    assert not {name for name in left(tmp_path) if name in INSIDE}


@pytest.mark.parametrize("unpacked", [True, False])
def test_a_mirror_folder_holds_the_archive_or_its_members(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpacked: bool
) -> None:
    for name, data in (INSIDE if unpacked else {"set.tar.gz": ARCHIVE}).items():
        (tmp_path / "mirror" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / name).write_bytes(data)
    monkeypatch.setenv("RATEBENCH_MIRROR", str(tmp_path / "mirror"))
    folder = download.fetch(server.archive())
    assert {name: (folder / name).read_bytes() for name in INSIDE} == INSIDE
    assert not server.asked and left(tmp_path) == set(INSIDE)


def test_a_damaged_file_in_the_mirror_is_named_and_kept_there(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATEBENCH_MIRROR", str(tmp_path))
    (tmp_path / "data.bin").write_bytes(DATA[:1000])
    with pytest.raises(TaskError, match=re.escape(f"the mirror's {tmp_path / 'data.bin'} has hash")):
        download.fetch(server.remote())
    assert (tmp_path / "data.bin").exists() and not left(tmp_path)


def test_what_the_mirror_lacks_comes_from_the_official_source(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATEBENCH_MIRROR", str(tmp_path))
    assert download.fetch(server.remote()).read_bytes() == DATA
    (tmp_path / "cache/data.bin").unlink()
    monkeypatch.setenv("RATEBENCH_MIRROR", f"{server.address}/elsewhere/")
    assert download.fetch(server.remote()).read_bytes() == DATA
    assert [path for path, _ in server.asked] == ["/data.bin", "/elsewhere/data.bin", "/data.bin"]


def test_a_mirror_may_be_a_url(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATEBENCH_MIRROR", server.address)
    file = RemoteFile("set.tar.gz", "http://official.invalid/set.tar.gz", md5(ARCHIVE), server.archive().members)
    folder = download.fetch(file)
    assert {name: (folder / name).read_bytes() for name in INSIDE} == INSIDE


def test_a_mirror_that_is_not_a_folder_is_a_sentence(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for mirror in (str(tmp_path / "absent"), str(tmp_path / "file")):
        monkeypatch.setenv("RATEBENCH_MIRROR", mirror)
        with pytest.raises(TaskError, match=re.escape(f"RATEBENCH_MIRROR is {mirror!r}, which is not a folder")):
            download.fetch(server.remote())


def test_without_network_and_mirror_one_sentence_names_the_way_out(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    file = RemoteFile("data.bin", "http://official.invalid/data.bin", md5(DATA))
    with pytest.raises(
        TaskError, match=r"RATEBENCH_MIRROR is not set: .* RATEBENCH_MIRROR to a folder that holds data"
    ):
        download.fetch(file)
    with pytest.raises(TaskError, match=r"absent\.bin \(HTTP 404 Not Found\) and RATEBENCH_MIRROR is not set"):
        download.fetch(server.remote("absent.bin"))


def test_several_processes_fetch_a_file_once(server: Server) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(download.fetch(server.remote()).read_bytes())) for _ in "abc"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DATA] * 3 and len(server.asked) == 1


def test_a_cache_that_is_not_a_folder_is_a_sentence(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(TaskError, match=r"can't write in .*cache: .*; set RATEBENCH_CACHE to another folder"):
        download.fetch(server.remote())


def test_every_pin_of_every_task_is_a_hash() -> None:
    for name in tasks.names():
        for file in tasks.get(name).files():
            assert file.url.startswith("https://") or not file.url  # then it is a mirror's alone
            for pin in (file.known_hash, *file.members.values()):
                assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{8}|sha256:[0-9a-f]{64}", pin), (file.name, pin)
