"""ILSVRC2012 on disk: unpacks image-net.org's three archives into a folder per class, and lists the images.

    <folder>/train/n01440764/*.JPEG … 1,000 classes      <folder>/val/n01440764/*.JPEG … 50 of each

The layout is that of torchvision. Preparation can be interrupted at any time: finished classes of training images and
finished validation images are kept, and the rest is unpacked again. The same command restores files that were lost later:
it compares names and sizes with those in the archives.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import yaml
from scipy.io import loadmat

from benchmarks import storage
from benchmarks.errors import TaskError

PINS = Path("data.dvc")
TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
CLASSES = 1000
IMAGES = {"train": 1_281_167, "val": 50_000}
VERIFIED = "verified.json"  # beside the archives: hashing 150 GB takes minutes
PREPARED = "prepared.json"  # beside train/ and val/, written last: their contents when they were complete
AGAIN = "unpack ILSVRC2012 again (`ratebench prepare imagenet` restores what it unpacked)"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Archive:
    path: Path
    md5: str


def pinned(pins: Path = PINS) -> dict[str, Archive]:
    """The archives that data.dvc pins, by file name, whether they exist or not."""
    try:
        outs = yaml.safe_load(pins.read_text(encoding="utf-8"))["outs"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        msg = f"can't read the pins of ILSVRC2012 in {pins}: {error}; run in the root of the checkout"
        raise TaskError(msg) from error
    return {Path(out["path"]).name: Archive(pins.parent / out["path"], out["md5"]) for out in outs}


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

    Raises TaskError for a missing, wrong or truncated archive, and StorageError if the disk is too small or full.
    """
    if _read(target / PREPARED) == _contents(target):
        say(f"{target} is prepared")
        return
    found = archives(pins)
    try:
        _unpack(found, target, say)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        msg = f"can't unpack into {target}: {reason}; run the same command again to continue"
        raise storage.StorageError(msg) from error
    say(f"{target}: {CLASSES} classes of training images and {IMAGES['val']} validation images")


def _unpack(found: dict[str, Archive], target: Path, say: Say) -> None:
    _room(target, found)
    for archive in found.values():
        _verify(archive, say)
    synsets, truth = _devkit(found[DEVKIT].path)
    _train(found[TRAIN].path, target / "train", say)
    _val(found[VAL].path, target / "val", [synsets[number] for number in truth], say)
    for part in IMAGES:
        listed(target / part)
    storage.write(target / PREPARED, json.dumps(_contents(target), indent=1).encode())


def done(target: Path) -> bool:
    """Whether everything was complete once; `listed` detects later losses."""
    return (target / PREPARED).is_file()


def _contents(target: Path) -> dict[str, dict[str, int]]:
    """How many images and bytes are in train/ and val/: a lost or truncated image changes them."""
    sizes = {part: [file.stat().st_size for file in target.glob(f"{part}/n*/*.JPEG")] for part in IMAGES}
    return {part: {"images": len(found), "bytes": sum(found)} for part, found in sizes.items()}


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
    there = sum(part["bytes"] for part in _contents(target).values())
    needed = sum(found[name].path.stat().st_size for name in (TRAIN, VAL)) - there
    free = shutil.disk_usage(target).free
    if free < needed:
        msg = f"{target} needs {needed / 1e9:.1f} GB more and has {free / 1e9:.1f} GB free: choose another folder or free space"
        raise storage.StorageError(msg)


def _verify(archive: Archive, say: Say) -> None:
    """Check an archive's hash once; a file of the same size and date is not read again."""
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
    with contextlib.suppress(storage.StorageError):  # without write permission, archives are hashed each time
        storage.write(notes, json.dumps({**known, archive.path.name: mark}).encode())


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """A context with the archive at `path`; raises TaskError with its name if it is damaged."""
    try:
        with tarfile.open(path) as tar:
            yield tar
    except (tarfile.TarError, EOFError, zlib.error) as error:
        msg = f"{path} is damaged ({error}): fetch it again"
        raise TaskError(msg) from error


def _devkit(path: Path) -> tuple[dict[int, str], list[int]]:
    """(synset by ILSVRC2012 number, the number of each validation image in the order of their names)."""
    inside = "ILSVRC2012_devkit_t12/data/"
    with _opened(path) as tar:
        meta, truth = (
            tar.extractfile(inside + name) for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")
        )
        assert meta is not None and truth is not None
        rows = loadmat(meta, squeeze_me=True)["synsets"]
        numbers = [int(line) for line in truth.read().split()]
    # Rows above the leaves group classes and have children.
    return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows if not row["num_children"]}, numbers


def _there(place: Path, member: tarfile.TarInfo) -> bool:
    """Whether a file of an archive is unpacked, judged by its size."""
    return place.is_file() and place.stat().st_size == member.size


def _train(path: Path, target: Path, say: Say) -> None:
    """Unpack the archive of each class to a temporary folder, then rename it, so that a class is complete or missing."""
    with _opened(path) as outer:
        for number, member in enumerate(outer):
            folder = target / Path(member.name).stem
            part = target / f".{folder.name}.part"
            inner = outer.extractfile(member)
            assert inner is not None
            with inner, tarfile.open(fileobj=inner) as images:
                if all(_there(folder / image.name, image) for image in images):
                    continue
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
                images.extractall(part, filter="data")
            shutil.rmtree(folder, ignore_errors=True)  # incomplete
            part.rename(folder)
            say(f"train: {number + 1} of {CLASSES} classes")
    if (count := len(_synsets(target))) != CLASSES:
        msg = f"{path} has {count} classes, not {CLASSES}: fetch it again"
        raise TaskError(msg)


def _val(path: Path, target: Path, synsets: list[str], say: Say) -> None:
    """Unpack each image into the folder of its class, under a temporary name until it is complete."""
    with _opened(path) as tar:
        members = sorted((member for member in tar if member.isfile()), key=lambda member: member.name)
        if len(members) != len(synsets):
            msg = f"{path} has {len(members)} images, not {len(synsets)}: fetch it again"
            raise TaskError(msg)
        for number, member in enumerate(members):
            place = target / synsets[number] / Path(member.name).name
            if _there(place, member):
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            part = place.with_suffix(".part")
            image = tar.extractfile(member)
            assert image is not None
            with image, part.open("wb") as out:
                shutil.copyfileobj(image, out)
            part.replace(place)
            if (number + 1) % 5000 == 0:
                say(f"val: {number + 1} of {len(members)} images")


def folder() -> Path:
    """The images' folder: RATEBENCH_IMAGENET, or the one that `prepare` made in the cache; raises TaskError without one."""
    given = os.environ.get("RATEBENCH_IMAGENET", "")
    if given:
        return Path(given).expanduser()
    prepared = storage.cache_folder() / "ILSVRC2012"
    if not done(prepared):
        archives()  # raises an error that names the missing archives and their places
        msg = "ILSVRC2012 is not unpacked yet: run `ratebench prepare imagenet`"
        raise TaskError(msg)
    return prepared


def listed(part: Path, per_class: int | None = None) -> tuple[list[Path], list[int]]:
    """(images, classes 0 to 999 in the order of their synsets) of train/ or val/, sorted.

    Raises TaskError if a class has no folder or no images, if it does not have `per_class` images (if given), or
    if the total is wrong.
    """
    synsets = _synsets(part)
    if len(synsets) != CLASSES:
        beside = part.with_name("val" if part.name == "train" else "train")
        lost = sorted(set(_synsets(beside)) - set(synsets)) if beside.is_dir() else []
        named = f" ({', '.join(lost[:3])} missing)" if lost else ""
        msg = f"{part} has {len(synsets)} class folders, not {CLASSES}{named}: {AGAIN}"
        raise TaskError(msg)
    paths: list[Path] = []
    classes: list[int] = []
    for number, synset in enumerate(synsets):
        images = _images(part / synset)
        if not images or per_class not in (None, len(images)):
            wanted = "" if per_class is None else f", not {per_class}"
            msg = f"{part / synset} has {len(images)} images{wanted}: {AGAIN}"
            raise TaskError(msg)
        paths += images
        classes += [number] * len(images)
    if len(paths) != IMAGES[part.name]:
        msg = f"{part} has {len(paths):,} images, not {IMAGES[part.name]:,}: {AGAIN}"
        raise TaskError(msg)
    return paths, classes


def _synsets(part: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(part) if entry.is_dir() and entry.name.startswith("n"))
    except OSError as error:
        msg = (
            f"can't read {part}: {error.strerror or error}; ILSVRC2012 has train/ and val/ with a folder for each class"
        )
        raise TaskError(msg) from error


def _images(folder: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.name.upper().endswith((".JPEG", ".JPG")))
