"""The contents of ILSVRC2012's three archives, and their way into folders. Every archive is checked whole before it is used."""

from __future__ import annotations

import contextlib
import io
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from scipy.io import loadmat

from benchmarks.data import ilsvrc_folders as folders
from benchmarks.data import unpacking
from benchmarks.errors import TaskError

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
_DEVKIT_LIMIT = 1 << 28  # bytes, unpacked; the official one has fewer than 10 MB
_IN_DEVKIT = "ILSVRC2012_devkit_t12/data/"
_NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})\.JPE?G", re.ASCII | re.IGNORECASE)
Say = Callable[[str], None]
Members = Mapping[str, tarfile.TarInfo]


def check(path: Path) -> None:
    """Raise TaskError unless the archive holds what its name promises and nothing else. Reads all headers, writes nothing."""
    if path.name == TRAIN:
        for _ in _classes(path):
            pass
    elif path.name == VAL:
        with _pictures(path):
            pass
    else:
        truth(path)


def truth(path: Path) -> list[str]:
    """The synset of each validation image, in the order of their numbers, from the development kit."""
    names = [_IN_DEVKIT + name for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")]
    with unpacking.opened(path, path) as tar:
        found = unpacking.members(tar, path, _DEVKIT_LIMIT, flat=False)
        files = [tar.extractfile(found[name]) for name in names if name in found]
        meta, numbers = (file.read() for file in files if file is not None) if len(files) == 2 else (b"", b"")
    try:
        rows = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        # Rows above the leaves group classes and have children.
        synsets = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows if not row["num_children"]}
        labels = [synsets[int(line)] for line in numbers.split()]
    except Exception as error:  # the reader of MATLAB's format raises anything
        msg = f"{path} does not hold the classes of ILSVRC2012 ({type(error).__name__}: {error}): fetch it again"
        raise TaskError(msg) from error
    each = folders.IMAGES["val"] // len(folders.SYNSETS)
    if sorted(synsets.values()) != sorted(folders.SYNSETS):
        msg = f"{path} does not name the {len(folders.SYNSETS):,} classes of ILSVRC2012: fetch it again"
        raise TaskError(msg)
    if Counter(labels) != dict.fromkeys(folders.SYNSETS, each):
        msg = f"{path} does not label {each} validation images of each class: fetch it again"
        raise TaskError(msg)
    return labels


def _classes(path: Path) -> Iterator[tuple[str, tarfile.TarFile, Members]]:
    """(synset, its archive, the images in it) of the archive of training images."""
    size = path.stat().st_size
    with unpacking.opened(path, path) as outer:
        found = unpacking.members(outer, path, size)
        if found.keys() != {f"{synset}.tar" for synset in folders.SYNSETS}:
            msg = (
                f"{path} has {len(found):,} files, not the archives of {len(folders.SYNSETS):,} classes: fetch it again"
            )
            raise TaskError(msg)
        for name, member in found.items():
            file = outer.extractfile(member)
            assert file is not None
            what = f"{name} in {path}"
            with file, unpacking.opened(file, what) as inner:
                images = unpacking.members(inner, what, member.size)
                if not images or not all(image.endswith(".JPEG") for image in images):
                    msg = f"{what} holds something else than images, or none: fetch {path} again"
                    raise TaskError(msg)
                yield name.removesuffix(".tar"), inner, images


@contextlib.contextmanager
def _pictures(path: Path) -> Iterator[tuple[tarfile.TarFile, Members]]:
    """A context with the archive of validation images and its members."""
    with unpacking.opened(path, path) as tar:
        images = unpacking.members(tar, path, path.stat().st_size)
        numbers = sorted(number for name in images if (number := number_of(name)) is not None)
        if numbers != list(range(1, folders.IMAGES["val"] + 1)) or len(images) != len(numbers):
            msg = f"{path} has {len(images):,} files, not {folders.IMAGES['val']:,} validation images: fetch it again"
            raise TaskError(msg)
        yield tar, images


def number_of(name: str) -> int | None:
    """The number of a validation image, from 1; None for another file."""
    found = _NUMBERED.fullmatch(name)
    return int(found[1]) if found else None


def unpack_train(path: Path, target: Path, say: Say) -> None:
    """Write the images that are not there into the folders of their classes.

    Raises TaskError for an image there that the archive does not hold.
    """
    for count, (synset, inner, images) in enumerate(_classes(path), 1):
        folder = target / synset
        held = [entry.name for entry in folders.entries(folder)] if folder.is_dir() else []
        if others := [name for name in held if folders.is_image(name) and name not in images]:
            msg = f"{folder / others[0]} is not in {path}: move it elsewhere and run the same command again"
            raise TaskError(msg)
        todo = [image for image in images.values() if not _there(folder / image.name, image)]
        for image in todo:
            _place(inner, image, folder / image.name)
        if todo:
            say(f"train: {count:,} of {len(folders.SYNSETS):,} classes")


def unpack_val(path: Path, target: Path, labels: Sequence[str], say: Say) -> None:
    """Write the images that are not there into the folders of their classes."""
    with _pictures(path) as (tar, images):
        for count, name in enumerate(sorted(images), 1):
            number = number_of(name)
            assert number is not None
            place = target / labels[number - 1] / name
            if not _there(place, images[name]):
                _place(tar, images[name], place)
                if count % 5000 == 0:
                    say(f"val: {count:,} of {len(images):,} images")


def _there(place: Path, member: tarfile.TarInfo) -> bool:
    """Whether a file of an archive is unpacked, judged by its size."""
    return place.is_file() and place.stat().st_size == member.size


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    """Write an image under a temporary name until it is complete."""
    if place.is_dir():
        msg = f"{place} is a folder, not an image: move it elsewhere and run the same command again"
        raise TaskError(msg)
    part = place.with_name(f".{place.name}.part")
    try:
        unpacking.copy(tar, member, part)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def sort_flat(val: Path, labels: Sequence[str], say: Say) -> None:
    """Move validation images that are in no class folder into the folders of their classes."""
    moved = 0
    for entry in folders.entries(val):
        number = number_of(entry.name)
        if number is None or not 1 <= number <= len(labels) or not entry.is_file():
            continue
        source, place = Path(entry.path), val / labels[number - 1] / entry.name
        if place.exists():
            continue
        place.parent.mkdir(exist_ok=True)
        if entry.is_symlink():  # may be relative to its folder
            place.symlink_to(source.resolve())
            source.unlink()
        else:
            source.rename(place)
        moved += 1
    if moved:
        say(f"{val}: moved {moved:,} images into the folders of their classes")


def check_val(val: Path, labels: Sequence[str]) -> None:
    """Raise TaskError for a validation image in the folder of another class."""
    for synset in folders.SYNSETS:
        for entry in folders.entries(val / synset) if (val / synset).is_dir() else ():
            number = number_of(entry.name)
            if number is not None and 1 <= number <= len(labels) and labels[number - 1] != synset:
                msg = (
                    f"{entry.path} is an image of {labels[number - 1]}, so it is in the folder of another class: give each "
                    "folder the name of its synset, or move the image, and run the same command again"
                )
                raise TaskError(msg)
