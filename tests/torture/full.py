"""Runs on a disk that is full: they end in one sentence, leave nothing half-written, and finish when there is space."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec

from torture import cells
from torture.journal import Journal
from torture.kills import undisturbed

PAGE = 4096


def full(sizes: int, methods: list[str], folder: Path, journal: Journal, say: Callable[[str], None]) -> None:
    """A run on file systems of `sizes` sizes, from a page to a little less than a run needs. Needs root to mount them."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "small"
    if place.is_mount():  # of an interrupted session
        _umount(place)
    place.mkdir(exist_ok=True)
    expected: dict[str, tuple[dict[str, str], int]] = {}
    for index in range(sizes):
        key, method = f"full {index}", methods[index % len(methods)]
        if key in journal.entries:
            continue
        if method not in expected:
            left = undisturbed(folder, method)[0]
            expected[method] = left, sum((folder / "undisturbed" / name).stat().st_size for name in left)
        files, needed = expected[method]
        size = PAGE * (1 + int(needed / PAGE * index / sizes))
        _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
        try:
            wrong = _on_a_full_disk(place / "results", method, folder / "log.txt")
            _mount("-o", "remount,size=1g", str(place))
            status, _ = cells.finish(place / "results", method, folder / "log.txt")
            wrong += [f"exit status {status} with space"] if status else []
            wrong += cells.differences(files, cells.content(place / "results"))
        finally:
            _umount(place)
        journal.note(key, method=method, bytes=size, wrong=wrong)
        say(f"{method} on {size:,} bytes: {'; '.join(wrong) or 'one sentence, then the same files'}")


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _umount(place: Path) -> None:
    subprocess.run(["umount", str(place)], check=True)


def _on_a_full_disk(results: Path, method: str, log: Path) -> list[str]:
    """What was wrong about a run that can't write."""
    status, _ = cells.finish(results, method, log)
    said = log.read_text("utf-8", errors="replace")
    wrong = []
    if "Traceback" in said or "disk is full" not in said.replace("\n", " ") or not status:
        wrong.append(f"status {status}, and it said: {said[-300:]}")
    for path in results.rglob("*") if results.exists() else ():
        if path.is_file() and path.suffix == ".json" and not _whole(path):
            wrong.append(f"{path.name} is half-written")
        if path.is_file() and path.name.startswith(".") and path.parent.name != ".work":
            wrong.append(f"{path.name} is left over")
    return wrong


def _whole(path: Path) -> bool:
    try:
        msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError:
        return False
    return True


def summary(journal: Journal) -> tuple[int, list[str]]:
    """The number of sizes, and what was wrong with them."""
    runs = [entry for key, entry in journal.entries.items() if key.startswith("full ")]
    return len(runs), [wrong for entry in runs for wrong in entry["wrong"]]
