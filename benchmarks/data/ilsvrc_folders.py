"""The images of ILSVRC2012 on disk, with the label of each.

    <folder>/train/n01440764/*.JPEG … 1,000 classes      <folder>/val/n01440764/*.JPEG … 50 of each

The layout is that of torchvision. A label is the position of a folder's name in the official list of synsets, whatever else the
folder holds: a renamed folder is an error, and never shifts the labels of others.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from benchmarks.errors import TaskError

SYNSETS = tuple(
    Path(__file__).with_name("synsets.txt").read_text(encoding="ascii").split()
)  # in the order of the labels
SYNSET = re.compile(r"n\d{8}", re.ASCII)
IMAGES = {"train": 1_281_167, "val": 50_000}
_ENDINGS = (".JPEG", ".JPG")
# What operating systems put into any folder, beside names that begin with a dot.
_FOREIGN = {"thumbs.db", "desktop.ini", "@eadir", "__macosx", "lost+found", "$recycle.bin", "system volume information"}


def listed(part: Path) -> tuple[list[Path], list[int]]:
    """(images, classes 0 to 999 in the order of the official synsets) of train/ or val/, sorted.

    Raises TaskError if the class folders are not the official ones, if a class has no images (in val/: not as many as every
    other), if an image is in the folder of another class, or if the total is wrong.
    """
    _check_folders(part)
    each = IMAGES["val"] // len(SYNSETS) if part.name == "val" else None
    paths: list[Path] = []
    classes: list[int] = []
    for number, synset in enumerate(SYNSETS):
        images = _images(part / synset)
        if not images or each not in (None, len(images)):
            wanted = "" if each is None else f", not {each}"
            others = _others(part / synset)
            msg = f"{part / synset} has {len(images)} images{wanted}{', but also ' if others else ''}{others}: {_advice()}"
            raise TaskError(msg)
        paths += images
        classes += [number] * len(images)
    if len(paths) != IMAGES[part.name]:
        others = next(
            (f", but {synset} also has {found}" for synset in SYNSETS if (found := _others(part / synset))), ""
        )
        msg = f"{part} has {len(paths):,} images, not {IMAGES[part.name]:,}{others}: {_advice()}"
        raise TaskError(msg)
    return paths, classes


def unknown(part: Path) -> list[str]:
    """Folders that are no class of ILSVRC2012, each with a hint of what it may be; none if `part` does not exist."""
    found = {entry.name for entry in entries(part) if entry.is_dir()} if part.is_dir() else set()
    lost = [synset for synset in SYNSETS if synset not in found]
    return [f"{name}{_hint(part / name, lost)}" for name in sorted(found.difference(SYNSETS))]


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds in the order of names, without the files that operating systems add."""
    try:
        found = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        msg = f"can't read {folder}: {error.strerror or error}; ILSVRC2012 has train/ and val/ with a folder for each class"
        raise TaskError(msg) from error
    return sorted((entry for entry in found if entry.name.lower() not in _FOREIGN), key=lambda entry: entry.name)


def is_image(name: str) -> bool:
    return name.upper().endswith(_ENDINGS)


def _check_folders(part: Path) -> None:
    """Raise TaskError unless the class folders are exactly the official ones."""
    held = entries(part)
    folders = {entry.name for entry in held if entry.is_dir()}
    missing = [synset for synset in SYNSETS if synset not in folders]
    strange = unknown(part)
    if not missing and not strange:
        return
    files = [entry.name for entry in held if not entry.is_dir()]
    loose = [name for name in files if is_image(name)]
    packed = [name for name in files if name.lower().endswith(".tar")]
    if missing and loose:
        msg = f"{part} has {len(loose):,} images that are in no class folder ({_few(loose, 1)}): {_sorting(part)}"
    elif missing and packed:
        which = _few(packed, 1)
        msg = f"{part} has {len(packed):,} archives that are not unpacked ({which}): unpack each into a folder of its name"
    else:
        found = [f"{_few(missing)} missing"] if missing else []
        found += [f"{_few(strange)} unknown"] if strange else []
        rename = "give each folder the name of its synset and move others elsewhere, or " if strange else ""
        told = "; ".join(found)
        msg = f"{part} does not have the {len(SYNSETS):,} class folders of ILSVRC2012 ({told}): {rename}{_advice()}"
    raise TaskError(msg)


def _sorting(part: Path) -> str:
    """How images without class folders get into them."""
    if part.name == "train":
        return "move each into the folder of its synset, the part of its name before the underscore"
    return (
        "put ILSVRC2012_devkit_t12.tar.gz into data/ (image-net.org, registration required) and run `ratebench prepare "
        "imagenet`, which moves each into the folder of its class"
    )


def _hint(folder: Path, missing: list[str]) -> str:
    if any((folder / synset).is_dir() for synset in SYNSETS):
        return " (holds class folders: move them up)"
    close = difflib.get_close_matches(folder.name.lower(), missing, n=1, cutoff=0.8)
    return f" (perhaps {close[0]})" if close else ""


def _images(folder: Path) -> list[Path]:
    """The images of a class; raises TaskError for one that is not a file or belongs to another class."""
    found: list[Path] = []
    for entry in entries(folder):
        if not is_image(entry.name):
            continue
        if not entry.is_file():
            what = "a folder" if entry.is_dir() else "not a readable file"
            msg = f"{entry.path} is {what}, not an image: move it elsewhere, then {_advice()}"
            raise TaskError(msg)
        synset, underscore, _ = entry.name.partition("_")
        if underscore and synset != folder.name and SYNSET.fullmatch(synset):
            msg = f"{entry.path} is in the folder of another class: give the folder the name of its synset, or {_advice()}"
            raise TaskError(msg)
        found.append(Path(entry.path))
    return found


def _others(folder: Path) -> str:
    """What else is in a class folder, as a part of a sentence."""
    others = [
        f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries(folder) if not is_image(entry.name)
    ]
    deeper = next((name for name in others if name.endswith("/")), None)
    if deeper is not None and any(is_image(entry.name) for entry in entries(folder / deeper)):
        return f"images in {deeper}, from where they have to be moved up"
    return f"{_few(others)} (images are .JPEG or .JPG)" if others else ""


def _few(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _advice() -> str:
    if given := os.environ.get("RATEBENCH_IMAGENET"):
        return f"correct {given}, or unset RATEBENCH_IMAGENET and run `ratebench prepare imagenet`, which unpacks the archives"
    return "run `ratebench prepare imagenet`, which restores what it unpacked"
