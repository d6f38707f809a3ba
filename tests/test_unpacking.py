"""Archives with members that nobody may unpack: refused in one sentence, before anything is written or deleted."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from benchmarks.data import download, unpacking
from benchmarks.data.download import RemoteFile
from benchmarks.errors import RateBenchError, TaskError
from benchmarks.records import compare

GOOD = ("set/train", b"pixels")
Member = tuple[str, bytes, bytes]  # name, type, content


def tar(*members: Member, **fields: object) -> bytes:
    """An archive with a good member, then others; `fields` are set in the headers of these."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as out:
        for number, (name, kind, data) in enumerate([(GOOD[0], tarfile.REGTYPE, GOOD[1]), *members]):
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(data)
            for key, value in fields.items() if number else ():
                setattr(info, key, value)
            out.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))  # type: ignore[union-attr]
            out.fileobj.write(data + bytes(-len(data) % 512))  # type: ignore[union-attr]
    return buffer.getvalue()


def one(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object) -> bytes:
    return tar((name, kind, data), **fields)


HOSTILE = {
    "dots": (one("../escaped", data=b"x"), "'../escaped' has a path that can leave its folder"),
    "dots inside": (one("set/../../escaped", data=b"x"), "has a path that can leave its folder"),
    "dot": (one("./escaped", data=b"x"), "has a path that can leave its folder"),
    "only a dot": (one("."), "has a path that can leave its folder"),
    "absolute": (one("/tmp/escaped", data=b"x"), "'/tmp/escaped' has an absolute path"),
    "root": (one("/"), "has an absolute path"),
    "drive": (one("C:/escaped"), "has an absolute path"),
    "empty": (one(""), "has an empty name"),
    "two slashes": (one("set//train2"), "has a path that can leave its folder"),
    "backslash": (one("set\\..\\..\\escaped"), "has a backslash or a control character"),
    "newline": (one("set/a\nb"), "has a backslash or a control character"),
    "twice": (one("set/train", data=b"other"), "'set/train' occurs twice"),
    "case": (one("SET/Train", data=b"other"), "'SET/Train' occurs twice, or differs from another name only in case"),
    "long": (one("set/" + "n" * 300), "has a name of more than 255 bytes"),
    "symbolic link": (one("set/x", tarfile.SYMTYPE, linkname="/etc/passwd"), "is a symbolic link, not a regular file"),
    "link to the folder": (one("set", tarfile.SYMTYPE, linkname="/tmp"), "is a symbolic link, not a regular file"),
    "hard link": (one("set/x", tarfile.LNKTYPE, linkname="set/train"), "is a hard link, not a regular file"),
    "device": (one("set/x", tarfile.CHRTYPE), "is a device, not a regular file"),
    "block device": (one("set/x", tarfile.BLKTYPE), "is a device, not a regular file"),
    "FIFO": (one("set/x", tarfile.FIFOTYPE), "is a FIFO, not a regular file"),
    "sparse": (one("set/x", tarfile.GNUTYPE_SPARSE), "is a sparse file, not a regular file"),
    "unknown kind": (one("set/x", b"Z"), "is of an unknown kind, not a regular file"),
    "huge": (one("set/x", size=1 << 40), "promises 1,099,511,627,776 bytes, more than the archive can hold"),
    "negative": (one("set/x", size=-1024), "promises -1,024 bytes"),
}


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".lock"}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_unsafe_archive_is_refused_before_anything_is_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, complaint = HOSTILE[kind]
    for place in ("mirror", "cache/set"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "mirror/set.tar").write_bytes(data)
    (tmp_path / "cache/set/train").write_bytes(b"of an older release")
    monkeypatch.setenv("RATEBENCH_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path / "cache"))
    members = {GOOD[0]: f"md5:{hashlib.md5(GOOD[1]).hexdigest()}"}
    before = listing(tmp_path)
    with pytest.raises(TaskError) as caught:
        download.fetch(RemoteFile("set.tar", "", f"md5:{hashlib.md5(data).hexdigest()}", members))
    said = str(caught.value)
    assert said.startswith("set.tar is not safe to unpack: its member ") and "\n" not in said and len(said) < 250
    assert complaint in said and said.endswith("; nothing of it was unpacked")
    assert listing(tmp_path) == before and (tmp_path / "cache/set/train").read_bytes() == b"of an older release"


def test_a_flat_archive_has_no_folders() -> None:
    for data, complaint in (
        (tar(), "is in a folder"),
        (one("set", tarfile.DIRTYPE), "is in a folder|is a folder, not a regular file"),
    ):
        with unpacking.opened(io.BytesIO(data), "x") as opened, pytest.raises(TaskError, match=complaint):
            unpacking.members(opened, "x", len(data))
    data = one("folder", tarfile.DIRTYPE)
    with unpacking.opened(io.BytesIO(data), "x") as opened:
        assert list(unpacking.members(opened, "x", len(data), flat=False)) == [GOOD[0]]


@pytest.mark.parametrize(
    "data", [b"", b"no archive", tar()[:515], b"\x1f\x8b" + tar(), gzip.compress(tar(), mtime=0)[:-20]]
)
def test_a_damaged_archive_is_named(data: bytes, tmp_path: Path) -> None:
    with (
        pytest.raises(TaskError, match=r"^x is damaged \(.+\): fetch it again$"),
        unpacking.opened(io.BytesIO(data), "x") as opened,
    ):
        for member in unpacking.members(opened, "x", 10_000, flat=False).values():
            unpacking.copy(opened, member, tmp_path / "member")


def test_a_revision_with_links_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Done:
        stdout = one("results/digits/link", tarfile.SYMTYPE, linkname="/")

    monkeypatch.setattr(compare.subprocess, "run", lambda *_, **__: Done)
    with pytest.raises(RateBenchError, match="'results/digits/link' is a symbolic link"):
        compare.compare("digits", "HEAD", "HEAD")
