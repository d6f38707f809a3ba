"""Mirrors: what one can't give comes from the official source, with a warning; odd mirrors and caches are sentences."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import test_transfer
from test_transfer import DATA, PIN, Request, Site, fetched, left, refusal

from benchmarks.data import download, transfer
from benchmarks.data.download import RemoteFile
from benchmarks.errors import TaskError
from benchmarks.tasks import imagenet_sample

site, pauses = test_transfer.site, test_transfer.pauses


MIRRORS: list[tuple[Callable[[Request], None], str]] = [
    (lambda r: r.send(403, body=b""), "HTTP 403 Forbidden"),
    (lambda r: r.send(503, body=b""), "HTTP 503 Service Unavailable"),
    (lambda r: r.send(body=b"<html>log in</html>"), "the server sent a web page"),
    (lambda r: r.send(headers={}, body=DATA * 4), "sends more than 1,048,576 bytes"),
]


@pytest.mark.parametrize(("mirror", "reason"), MIRRORS)
def test_without_the_mirror_the_official_source_is_tried_and_told(
    site: Site,
    mirror: Callable[[Request], None],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    site.behaviour |= {"mirror": mirror, "gone": lambda r: r.send(410, body=b"")}
    monkeypatch.setenv("RATEBENCH_MIRROR", f"{site.address}/mirror/")
    said = refusal(f"{site.address}/gone")
    assert (
        f"{site.address}/gone/data.bin (HTTP 410 Gone) and the mirror {site.address}/mirror/data.bin ({reason}" in said
    )
    caplog.clear()
    with caplog.at_level(logging.WARNING, "benchmarks"):
        assert fetched(f"{site.address}/good") == DATA
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("benchmarks")]
    assert re.fullmatch(rf"the mirror .*{re.escape(reason)}.*; trying the official source, .*/good/data\.bin", line)


@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "FILE://{}/"])
def test_a_mirror_folder_in_any_form(site: Site, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a mirror"
    folder.mkdir()
    (folder / "data.bin").write_bytes(DATA)
    place = str(folder).replace(" ", "%20") if ":" in form else str(folder)
    monkeypatch.setenv("RATEBENCH_MIRROR", form.format(place))
    assert fetched(f"{site.address}/good") == DATA and not site.asked


def test_a_mirror_of_another_kind_is_a_sentence(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATEBENCH_MIRROR", "s3://bucket/files")
    with pytest.raises(TaskError, match=r"is 's3://bucket/files': give a folder, or a URL that begins with https://"):
        fetched(f"{site.address}/good")
    monkeypatch.setenv("RATEBENCH_MIRROR", " ")
    assert fetched(f"{site.address}/good") == DATA


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("http://[::1", "is no address"),
        ("file://[x/", "is no address"),
        ("http://[bad]/", "no usable address|is no address"),
        ("~no-such-user/x", "no such home folder"),
    ],
)
def test_a_mirror_that_is_no_address_is_a_sentence(
    site: Site, mirror: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATEBENCH_MIRROR", mirror)
    site.behaviour["gone"] = lambda r: r.send(410, body=b"")
    with pytest.raises(TaskError, match=reason):
        fetched(f"{site.address}/gone")


def test_a_mirror_without_a_home_is_a_sentence_for_a_folder_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATEBENCH_MIRROR", "~no-such-user/x")
    imagenet_sample.folder.cache_clear()
    with pytest.raises(TaskError, match="RATEBENCH_MIRROR is '~no-such-user/x', but there is no such home folder"):
        imagenet_sample.folder()


def _unreadable(place: Path) -> None:
    place.symlink_to(place)  # also root gets an error for it


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Path.mkdir, "has data.bin, but it is not a regular file"),
        (os.mkfifo, "has data.bin, but it is not a regular file"),
        (_unreadable, "does not give data.bin (Too many levels of symbolic links)"),
        (lambda place: None, "does not have data.bin"),
    ],
)
def test_what_a_mirror_folder_can_not_give(
    site: Site, tmp_path: Path, make: Callable[[Path], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    make(tmp_path / "mirror/data.bin")
    monkeypatch.setenv("RATEBENCH_MIRROR", str(tmp_path / "mirror"))
    site.behaviour["gone"] = lambda r: r.send(410, body=b"")
    assert f"(HTTP 410 Gone) and the mirror {tmp_path}/mirror {reason}" in refusal(f"{site.address}/gone")
    with pytest.raises(TaskError, match=re.escape(f"data.bin has no public address and the mirror {tmp_path}/mirror")):
        download.fetch(RemoteFile("data.bin", "", PIN))
    assert fetched(f"{site.address}/good") == DATA


@pytest.mark.parametrize("name", ["data.bin", "data.bin.part", "data.bin.lock"])
def test_a_folder_in_the_place_of_a_file_is_a_sentence(site: Site, tmp_path: Path, name: str) -> None:
    (tmp_path / "cache" / name).mkdir(parents=True)
    with pytest.raises(TaskError, match=r"set RATEBENCH_CACHE to another folder$"):
        fetched(f"{site.address}/good")
    assert (tmp_path / "cache" / name).is_dir()


def test_a_full_disk_leaves_no_part(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Iterator[bytes]:
        yield DATA[:1000]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer, "_in_time", full)
    with pytest.raises(TaskError, match=r"can't read or write .*: No space left on device"):
        fetched(f"{site.address}/good")
    assert not left(tmp_path)
