"""Snapshots in the git history of a results folder."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.errors import RateBenchError
from benchmarks.records import items, latency
from benchmarks.records.folders import POINT
from benchmarks.records.snapshot import DIGITS, combined, digest

LEVELS = 3  # folders between a suite and its records: network, method, cell
_PREFIX = re.compile(rf"[0-9a-f]{{4,{DIGITS}}}")


@dataclass(frozen=True)
class Snapshot:
    """The records of a suite, and the first commit that has exactly these."""

    id: str
    suite: str
    commit: str


class NoHistory(RateBenchError):
    """The results folder is not in a git checkout, or has no commit."""


def find(results: Path, prefix: str) -> Snapshot:
    """The one snapshot in the history of the checkout, of any suite, whose id begins with a prefix of 4 to 12 digits.

    Raises RateBenchError if there is none or more than one, and NoHistory.
    """
    if not _PREFIX.fullmatch(prefix):
        msg = f"{prefix!r} is not a snapshot id: give its {DIGITS} hexadecimal digits, or at least the first four"
        raise RateBenchError(msg)
    found = {one.id: one for one in snapshots(results) if one.id.startswith(prefix)}
    if len(found) > 1:
        msg = f"{prefix!r} is the beginning of {len(found)} snapshots ({', '.join(sorted(found))}): give more digits"
        raise RateBenchError(msg)
    if not found:
        why = "update it with `git pull`, or check the id"
        if shallow(results):
            why = "it has only a part of the history: get the rest with `git fetch --unshallow`"
        msg = f"no commit of this checkout has records of the snapshot {prefix!r} in {results}: {why}"
        raise RateBenchError(msg)
    return found.popitem()[1]


def commit(results: Path, suite: str, snapshot_id: str) -> str | None:
    """The first commit whose records of a suite are this snapshot; None where they are not committed or git does not say.

    None also in a clone without the whole history, where the first commit is not known.
    """
    try:
        known = snapshots(results, suite)
        found = next((one.commit for one in known if one.id == snapshot_id), None)
        return None if shallow(results) else found
    except NoHistory:
        return None


def shallow(results: Path) -> bool:
    """Whether the clone has only a part of the history."""
    return _git(results, "rev-parse", "--is-shallow-repository").strip() == b"true"


def snapshots(results: Path, suite: str | None = None) -> Iterator[Snapshot]:
    """All snapshots in the history of HEAD, each once, oldest first; those of one suite, or of every suite.

    Raises NoHistory. Objects that several commits share are read once.
    """
    place = "." if suite is None else f":(literal){suite}"
    commits = _git(results, "rev-list", "--full-history", "--topo-order", "--reverse", "HEAD", "--", place).split()
    seen = set[tuple[str, str]]()
    with _objects(results) as objects:
        for name in map(bytes.decode, commits):
            for own, tree in objects.folders(f"{name}:./").items():
                if suite in (None, own) and (found := objects.snapshot(tree)) and (own, found) not in seen:
                    seen.add((own, found))
                    yield Snapshot(found, own, name)


def _git(results: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(results), *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        msg = f"{results} has no git history to search: run this in a git clone of RateBench, where git is installed"
        raise NoHistory(msg) from error


@contextmanager
def _objects(results: Path) -> Iterator[_Objects]:
    command = ["git", "-C", str(results), "cat-file", "--batch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield _Objects(process)


class _Objects:
    """Reads objects of a repository through one `git cat-file`; what has been computed of a tree is kept."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._digests: dict[tuple[str, int], tuple[bytes, ...]] = {}

    def _read(self, name: str) -> tuple[int, bytes] | None:
        """(Length of an object's id in bytes, content); None if there is no such object."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None and answers is not None
        asked.write(f"{name}\n".encode())
        asked.flush()
        head = answers.readline().split()
        if len(head) != 3 or not head[2].isdigit():
            return None
        return len(head[0]) // 2, answers.read(int(head[2]) + 1)[:-1]

    def _entries(self, name: str) -> Iterator[tuple[str, str, bool]]:
        """(Name, object, whether it is a folder) of a tree's files and folders, without links and hidden names."""
        length, data = self._read(name) or (0, b"")
        while data:
            head, _, rest = data.partition(b"\0")
            mode, _, own = head.partition(b" ")
            if mode[:3] in (b"400", b"100") and own[:1] != b".":
                yield own.decode(errors="replace"), rest[:length].hex(), mode[:3] == b"400"
            data = rest[length:]

    def folders(self, name: str) -> Mapping[str, str]:
        """The folders in a tree, with their objects."""
        return {own: place for own, place, folder in self._entries(name) if folder}

    def snapshot(self, tree: str) -> str | None:
        """The snapshot of a suite's folder; None without records, or if a file is not JSON."""
        try:
            found, timed = self._below(tree, LEVELS), [self._digest(place) for place in self._latencies(tree)]
        except msgspec.DecodeError:
            return None
        return combined([*found, *timed]) if found else None

    def _below(self, tree: str, levels: int) -> tuple[bytes, ...]:
        """The hashes of the records so many levels below a tree; raises msgspec.DecodeError."""
        if (tree, levels) not in self._digests:
            entries = list(self._entries(tree))
            if levels:
                found = [one for _, place, folder in entries if folder for one in self._below(place, levels - 1)]
            else:
                files = {own: place for own, place, folder in entries if not folder}
                known = [(place, files.get(_beside(own))) for own, place in files.items() if POINT.fullmatch(own)]
                found = [self._digest(*both) for both in known]
            self._digests[tree, levels] = tuple(found)
        return self._digests[tree, levels]

    def _latencies(self, tree: str) -> Iterator[str]:
        """The files with latencies in the folders of networks."""
        for network in self.folders(tree).values():
            yield from (place for own, place, folder in self._entries(network) if own == latency.NAME and not folder)

    def _digest(self, blob: str, values: str | None = None) -> bytes:
        """The hash of a file, with the values of test items beside it."""
        return digest(self._content(blob), None if values is None else self._content(values))

    def _content(self, blob: str) -> bytes:
        return (self._read(blob) or (0, b""))[1]


def _beside(record: str) -> str:
    """The name of the file with the values of single test items."""
    return items.path_beside(Path(record)).name
