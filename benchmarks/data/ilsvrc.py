"""ILSVRC2012: the archives that data.dvc pins, and the folder of the images (ilsvrc_folders.py).

Preparation can be interrupted at any time: finished images are kept, and the rest is unpacked again. The same command restores
files that were lost later: it compares names and sizes with those in the archives. It deletes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import yaml

from benchmarks import storage
from benchmarks.data import ilsvrc_archives
from benchmarks.data import ilsvrc_folders as folders
from benchmarks.data.ilsvrc_archives import DEVKIT, TRAIN, VAL
from benchmarks.errors import TaskError

PINS = Path("data.dvc")
VERIFIED = "verified.json"  # beside the archives: hashing 150 GB takes minutes
PREPARED = "prepared.json"  # beside train/ and val/, written last: their contents when they were complete
Say = Callable[[str], None]


@dataclass(frozen=True)
class Archive:
    path: Path
    md5: str


def pinned(pins: Path = PINS) -> dict[str, Archive]:
    """The archives that data.dvc pins, by file name, whether they exist or not."""
    try:
        outs = yaml.safe_load(pins.read_text(encoding="utf-8"))["outs"]
        found = {Path(out["path"]).name: Archive(pins.parent / out["path"], out["md5"]) for out in outs}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        msg = f"can't read the pins of ILSVRC2012 in {pins}: {error}; run in the root of the checkout"
        raise TaskError(msg) from error
    if missing := {TRAIN, VAL, DEVKIT} - found.keys():
        msg = f"{pins} does not pin {', '.join(sorted(missing))}: restore it from the repository"
        raise TaskError(msg)
    return found


def archives(pins: Path = PINS) -> dict[str, Archive]:
    """The pinned archives; raises TaskError that names the place for each missing one."""
    found = pinned(pins)
    if missing := [archive for archive in found.values() if not archive.path.is_file()]:
        places = ", ".join(str(archive.path) for archive in missing)
        msg = (
            f"missing: {places}: download from image-net.org (registration required) to this place, or set "
            "RATEBENCH_IMAGENET to a folder that has train/ and val/ with a folder for each class"
        )
        raise TaskError(msg)
    return found


def prepare(target: Path, say: Say, pins: Path = PINS) -> None:
    """Unpack the pinned archives into `target`, class by class; does nothing if everything is there.

    Raises TaskError for a missing, wrong, truncated or unsafe archive and for files in `target` that do not belong there,
    and StorageError if the disk is too small or full.
    """
    if _is_prepared(target):
        say(f"{target} is prepared")
        return
    for part in folders.IMAGES:
        if strange := folders.unknown(target / part):
            msg = (
                f"{target / part} holds folders that are no class of ILSVRC2012: {', '.join(strange[:3])}: give them the "
                "names of their synsets or move them elsewhere, and run the same command again"
            )
            raise TaskError(msg)
    found = archives(pins)
    with _disk(target, "unpack into"):
        _unpack(found, target, say)
    say(f"{target}: {len(folders.SYNSETS)} classes of training images and {folders.IMAGES['val']} validation images")


def arrange(given: Path, say: Say, pins: Path = PINS) -> None:
    """Check the labels of a user's folder with the development kit, if its archive is there; sorts a val/ without folders.

    Raises TaskError for an image in a wrong folder, and StorageError if images can't be moved.
    """
    devkit = pinned(pins)[DEVKIT]
    if devkit.path.is_file():
        _verify(devkit, say)
        labels = ilsvrc_archives.truth(devkit.path)
        with _disk(given, "sort the images of"):
            ilsvrc_archives.sort_flat(given / "val", labels, say)
        ilsvrc_archives.check_val(given / "val", labels)
    else:
        say(
            f"the labels of {given / 'val'} are not checked, because names of its images do not tell: put {DEVKIT} into data/"
        )


@contextlib.contextmanager
def _disk(target: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        msg = f"can't {what} {error.filename or target}: {reason}; run the same command again to continue"
        raise storage.StorageError(msg) from error


def _unpack(found: dict[str, Archive], target: Path, say: Say) -> None:
    _room(target, found)
    for archive in found.values():
        _verify(archive, say)
    labels = ilsvrc_archives.truth(found[DEVKIT].path)
    ilsvrc_archives.check_val(target / "val", labels)
    ilsvrc_archives.unpack_train(found[TRAIN].path, target / "train", say)
    ilsvrc_archives.unpack_val(found[VAL].path, target / "val", labels, say)
    storage.write(target / PREPARED, json.dumps(_contents(target), indent=1).encode())


def done(target: Path) -> bool:
    """Whether everything was complete once; `ilsvrc_folders.listed` detects later losses."""
    return (target / PREPARED).is_file()


def _contents(target: Path) -> dict[str, dict[str, Any]]:
    """Images, bytes and names in train/ and val/: a lost, truncated or moved image changes them."""
    found = {}
    for part in folders.IMAGES:
        images, _ = folders.listed(target / part)
        names = "".join(f"{image.parent.name}/{image.name}\n" for image in images)
        found[part] = {
            "images": len(images),
            "bytes": sum(image.stat().st_size for image in images),
            "names": hashlib.sha256(names.encode()).hexdigest(),
        }
    return found


def _is_prepared(target: Path) -> bool:
    """Whether train/ and val/ are as they were noted; older notes have no names."""
    noted = _read(target / PREPARED)
    try:
        return bool(noted) and all(noted[part].items() <= found.items() for part, found in _contents(target).items())
    except (TaskError, OSError, KeyError, AttributeError, TypeError):
        return False


def _read(path: Path) -> dict[str, Any]:
    """The content of a note of this module; empty if it is missing or damaged."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _room(target: Path, found: dict[str, Archive]) -> None:
    """Raise StorageError unless the files that are not yet unpacked fit on the disk."""
    target.mkdir(parents=True, exist_ok=True)
    there = sum(
        file.stat().st_size for part in folders.IMAGES for file in target.glob(f"{part}/n*/*.JPEG") if file.is_file()
    )
    needed = sum(found[name].path.stat().st_size for name in (TRAIN, VAL)) - there
    free = shutil.disk_usage(target).free
    if free < needed:
        msg = f"{target} needs {needed / 1e9:.1f} GB more and has {free / 1e9:.1f} GB free: choose another folder or free space"
        raise storage.StorageError(msg)


def _verify(archive: Archive, say: Say) -> None:
    """Check an archive's hash and all its headers once; a file of the same size and date is not read again."""
    notes = archive.path.with_name(VERIFIED)
    known = _read(notes)
    stat = archive.path.stat()
    mark = [archive.md5, stat.st_size, stat.st_mtime_ns]
    if known.get(archive.path.name) == mark:
        return
    say(f"checking {archive.path}")
    digest = pooch.file_hash(str(archive.path), alg="md5")
    if digest != archive.md5:
        msg = f"{archive.path} has md5 {digest}, not {archive.md5}: it is damaged or another file; fetch it again"
        raise TaskError(msg)
    ilsvrc_archives.check(archive.path)
    with contextlib.suppress(storage.StorageError):  # without write permission, archives are hashed each time
        storage.write(notes, json.dumps({**known, archive.path.name: mark}).encode())


def folder() -> Path:
    """The images' folder: RATEBENCH_IMAGENET, or the one that `prepare` made in the cache; raises TaskError without one."""
    given = os.environ.get("RATEBENCH_IMAGENET", "")
    if given:
        return storage.expanded(given, "RATEBENCH_IMAGENET")
    prepared = storage.cache_folder() / "ILSVRC2012"
    if not done(prepared):
        archives()  # raises an error that names the missing archives and their places
        msg = "ILSVRC2012 is not unpacked yet: run `ratebench prepare imagenet`"
        raise TaskError(msg)
    return prepared
