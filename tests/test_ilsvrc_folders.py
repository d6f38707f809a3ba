"""ILSVRC2012 as users have it: renamed, flat, nested or foreign folders are told with what helps; junk is ignored."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import test_ilsvrc
import test_unpacking
from test_ilsvrc import SYNSETS, devkit, jpeg, packed, tree

from benchmarks.data import ilsvrc, ilsvrc_folders
from benchmarks.errors import TaskError
from benchmarks.tasks import imagenet

pins = test_ilsvrc.pins
ONE, TWO, THREE = SYNSETS
Harm = Callable[[Path], object]


@pytest.fixture
def given(pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folder in RATEBENCH_IMAGENET, complete; the archives are not at hand."""
    ilsvrc.prepare(tmp_path / "given", lambda _: None, pins)
    (tmp_path / "given" / ilsvrc.PREPARED).unlink()
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RATEBENCH_IMAGENET", str(tmp_path / "given"))
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "given"


def test_the_official_synsets() -> None:
    """The order of the labels of every network that was trained on ILSVRC2012."""
    assert len(ilsvrc_folders.SYNSETS) == 1000 and list(ilsvrc_folders.SYNSETS) == sorted(set(ilsvrc_folders.SYNSETS))
    assert all(ilsvrc_folders.SYNSET.fullmatch(synset) for synset in ilsvrc_folders.SYNSETS)
    digest = hashlib.sha256("\n".join(ilsvrc_folders.SYNSETS).encode()).hexdigest()
    assert digest == "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
    known = {0: "n01440764", 207: "n02099601", 281: "n02123045", 817: "n04285008", 999: "n15075141"}
    assert all(ilsvrc_folders.SYNSETS[label] == synset for label, synset in known.items())


def flat(part: Path) -> None:
    for image in list(part.rglob("*.JPEG")):
        image.rename(part / image.name)
    for synset in SYNSETS:
        (part / synset).rmdir()


def swap(part: Path, first: str, second: str) -> None:
    (part / first).rename(part / "x")
    (part / second).rename(part / first)
    (part / "x").rename(part / second)


def deeper(part: Path) -> None:
    for synset in SYNSETS:
        (part / synset).rename(part / "x")
        (part / synset).mkdir()
        (part / "x").rename(part / synset / "images")


def nest(part: Path) -> None:
    part.rename(part.with_name("x"))
    part.mkdir()
    part.with_name("x").rename(part / part.name)


def pack(part: Path) -> None:
    for synset in SYNSETS:
        shutil.rmtree(part / synset)
        (part / f"{synset}.tar").write_bytes(b"")


def image(part: Path, synset: str = ONE) -> Path:
    return min((part / synset).iterdir())


HARM: dict[str, tuple[Harm, str]] = {
    "renamed": (
        lambda p: (p / TWO).rename(p / "n02112138"),
        f"({TWO} missing; n02112138 (perhaps {TWO}) unknown): give each",
    ),
    "renamed to a class": (lambda p: (p / TWO).rename(p / "n04285008"), f"({TWO} missing; n04285008 unknown)"),
    "words": (lambda p: (p / TWO).rename(p / "chow"), f"({TWO} missing; chow unknown)"),
    "upper case": (lambda p: (p / TWO).rename(p / TWO.upper()), f"N02112137 (perhaps {TWO}) unknown"),
    "missing": (lambda p: shutil.rmtree(p / TWO), f"({TWO} missing): correct "),
    "extra": (
        lambda p: (p / "n01443537").mkdir(),
        "(n01443537 unknown): give each folder the name of its synset and move others",
    ),
    "empty class": (lambda p: shutil.rmtree(p / TWO) or (p / TWO).mkdir(), f"{TWO} has 0 images"),
    "nested": (nest, f"({ONE}, {TWO}, {THREE} missing; "),
    "nested hint": (nest, "(holds class folders: move them up) unknown)"),
    "deeper": (
        deeper,
        f"{ONE} has 0 images … , but also images in images/, from where they have to be moved up: correct ",
    ),
    "packed": (pack, f"3 archives that are not unpacked ({ONE}.tar and 2 more): unpack each into a folder of its name"),
    "other type": (
        lambda p: image(p).rename(p / ONE / "a.png"),
        " images, not … a.png (images are .JPEG or .JPG): correct ",
    ),
    "folder as image": (
        lambda p: (image(p).unlink(), (p / ONE / "a.JPEG").mkdir()),
        "a.JPEG is a folder, not an image",
    ),
    "broken link": (
        lambda p: (p / ONE / "a.JPEG").symlink_to("nowhere"),
        "a.JPEG is not a readable file, not an image",
    ),
    "class is a file": (lambda p: shutil.rmtree(p / TWO) or (p / TWO).write_text(""), f"({TWO} missing)"),
    "no folder": (lambda p: shutil.rmtree(p) or p.write_text(""), "Not a directory; ILSVRC2012 has train/ and val/"),
}


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("harm", HARM)
def test_a_folder_that_would_give_wrong_labels_is_refused(given: Path, part: str, harm: str) -> None:
    apply, complaint = HARM[harm]
    apply(given / part)
    before = tree(given)
    with pytest.raises(TaskError) as caught:
        imagenet.prepare(lambda _: None)
    said = str(caught.value)
    assert all(piece in said for piece in complaint.split(" … "))
    assert str(given / part) in said and "\n" not in said and "delete" not in said
    assert tree(given) == before
    with pytest.raises(TaskError):
        imagenet._splits.__wrapped__() if part == "train" else imagenet.test_split.__wrapped__()


def test_two_folders_of_training_images_that_changed_names(given: Path) -> None:
    swap(given / "train", ONE, THREE)
    with pytest.raises(
        TaskError, match=rf"train/{ONE}/{THREE}_0\.JPEG is in the folder of another class: give the folder"
    ):
        imagenet.prepare(lambda _: None)


def test_two_folders_of_validation_images_that_changed_names(given: Path) -> None:
    """Their names do not tell the class, the development kit does."""
    swap(given / "val", ONE, THREE)
    (given.parent / "elsewhere").rename(given.parent / "data")
    with pytest.raises(TaskError, match=rf"val/{ONE}/ILSVRC2012_val_0000000\d\.JPEG is an image of {THREE}"):
        imagenet.prepare(lambda _: None)


def test_a_flat_training_set_is_told(given: Path) -> None:
    flat(given / "train")
    with pytest.raises(TaskError, match=r"train has 12 images that are in no class folder .*: move each .* synset"):
        imagenet.prepare(lambda _: None)


@pytest.mark.parametrize("link", [False, True])
def test_a_flat_validation_set_is_sorted_with_the_development_kit(given: Path, link: bool) -> None:
    wanted = tree(given)
    flat(given / "val")
    if link:  # relative links, as a set of links to a shared disk has them
        (given / "real").mkdir()
        for picture in list((given / "val").iterdir()):
            picture.rename(given / "real" / picture.name)
            picture.symlink_to(Path("../real") / picture.name)
    (given / "val" / "._ILSVRC2012_val_00000001.JPEG").write_bytes(b"of macOS")
    with pytest.raises(TaskError) as caught:
        imagenet.prepare(lambda _: None)
    advice = (
        "put ILSVRC2012_devkit_t12.tar.gz into data/ (image-net.org, registration required) and run `ratebench prepare"
    )
    loose = "val has 6 images that are in no class folder (ILSVRC2012_val_00000001.JPEG and 5 more): "
    assert loose + advice in str(caught.value)
    (given.parent / "data").mkdir()
    shutil.copy(given.parent / "elsewhere" / ilsvrc.DEVKIT, given.parent / "data")
    said: list[str] = []
    imagenet.prepare(said.append)
    assert f"{given / 'val'}: moved 6 images into the folders of their classes" in said
    found = {name: digest for name, digest in tree(given).items() if "/._" not in name and not name.startswith("real/")}
    assert found == wanted
    imagenet.prepare(said.append)
    assert sum("moved" in line for line in said) == 1


def test_what_systems_add_is_ignored(given: Path) -> None:
    wanted = ilsvrc_folders.listed(given / "train"), ilsvrc_folders.listed(given / "val")
    for folder in [given, given / "train", given / "val", *given.glob("*/n*")]:
        for name in ("._n01440764_1.JPEG", ".DS_Store", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"x")
        for name in ("__MACOSX", "lost+found", ".Trash-1000", "@eaDir"):
            (folder / name).mkdir()
    assert (ilsvrc_folders.listed(given / "train"), ilsvrc_folders.listed(given / "val")) == wanted
    imagenet.prepare(lambda _: None)


@pytest.mark.parametrize("ending", [".jpeg", ".jpg", ".JPG", ".Jpeg"])
def test_endings_in_any_case_and_linked_folders(given: Path, ending: str) -> None:
    classes = ilsvrc_folders.listed(given / "train")[1]
    for picture in list((given / "train").rglob("*.JPEG")):
        picture.rename(picture.with_suffix(ending))
    (given / "train" / ONE).rename(given.parent / "far")
    (given / "train" / ONE).symlink_to(given.parent / "far")
    (given / "val").rename(given.parent / "val")
    (given / "val").symlink_to("../val")
    paths, found = ilsvrc_folders.listed(given / "train")
    assert found == classes and all(path.suffix == ending for path in paths)
    imagenet.prepare(lambda _: None)


def test_a_renamed_folder_is_noticed_where_the_suite_unpacked(pins: Path, tmp_path: Path) -> None:
    """The number of images and bytes is as it was."""
    out = tmp_path / "out"
    ilsvrc.prepare(out, lambda _: None, pins)
    before = tree(out)
    (out / "val" / TWO).rename(out / "val" / "n02112138")
    with pytest.raises(TaskError, match=rf"val holds folders .*: n02112138 \(perhaps {TWO}\): give them the names"):
        ilsvrc.prepare(out, lambda _: None, pins)
    (out / "val" / "n02112138").rename(out / "val" / TWO)
    assert tree(out) == before
    swap(out / "val", ONE, THREE)
    with pytest.raises(TaskError, match="so it is in the folder of another class"):
        ilsvrc.prepare(out, lambda _: None, pins)


def test_an_image_that_no_archive_holds_is_named(pins: Path, tmp_path: Path) -> None:
    ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    (tmp_path / "out/train" / ONE / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(TaskError, match=r"holiday\.jpg is not in .*: move it elsewhere"):
        ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    assert (tmp_path / "out/train" / ONE / "holiday.jpg").exists()


def repinned(pins: Path, name: str, data: bytes) -> None:
    """Put another archive in place, with its own pin."""
    place = pins.with_name("data") / name
    old = hashlib.md5(place.read_bytes()).hexdigest()
    place.write_bytes(data)
    pins.write_text(pins.read_text().replace(old, hashlib.md5(data).hexdigest()))


def member(kind: str) -> tuple[str, bytes]:
    """The name and the type of the second member of an unsafe archive."""
    data = test_unpacking.HOSTILE[kind][0]
    header = tarfile.TarInfo.frombuf(data[1024:1536], "utf-8", "surrogateescape")
    return header.name, header.type


@pytest.mark.parametrize("where", ["train", "class", "val", "devkit"])
@pytest.mark.parametrize(
    "kind", ["dots", "absolute", "root", "only a dot", "empty", "backslash", "symbolic link", "device"]
)
def test_nothing_is_deleted_or_written_for_an_unsafe_archive(where: str, kind: str, pins: Path, tmp_path: Path) -> None:
    ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    (tmp_path / "out" / "train" / ONE / f"{ONE}_0.JPEG").unlink()
    before = tree(tmp_path / "out")
    name, type_ = member(kind)
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type_, "/"
    bad = info.tobuf(tarfile.GNU_FORMAT)
    if where == "class":
        classes = {
            f"{s}.tar": packed({f"{s}_{i}.JPEG": jpeg(10 * n + i) for i in range(4)}) for n, s in enumerate(SYNSETS)
        }
        repinned(pins, ilsvrc.TRAIN, packed(classes | {f"{THREE}.tar": bad + classes[f"{THREE}.tar"]}))
    else:
        archive = {"train": ilsvrc.TRAIN, "val": ilsvrc.VAL, "devkit": ilsvrc.DEVKIT}[where]
        data = (pins.with_name("data") / archive).read_bytes()
        if where == "devkit":
            data = gzip.compress(bad + gzip.decompress(data))
        repinned(pins, archive, data if where == "devkit" else bad + data)
    with pytest.raises(TaskError, match=r"is not safe to unpack: its member .* nothing of it was unpacked"):
        ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    assert tree(tmp_path / "out") == before


def test_a_kit_of_other_classes_is_refused(pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content, complaint in (
        ("SYNSETS", (*SYNSETS[:2], "../../out"), "does not name the 3 classes of ILSVRC2012"),
        ("TRUTH", (1, 1, 2, 2, 1, 3), "does not label 2 validation images of each class"),
        ("TRUTH", (1, 3, 2, 2, 1, 9), "does not hold the classes of ILSVRC2012 (KeyError"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(test_ilsvrc, name, content)
            repinned(pins, ilsvrc.DEVKIT, devkit())
        with pytest.raises(TaskError) as caught:
            ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
        assert complaint in str(caught.value)
    for data in (packed({"ILSVRC2012_devkit_t12/data/meta.mat": b"no matrix"}, "w:gz"), packed({}, "w:gz")):
        repinned(pins, ilsvrc.DEVKIT, data)
        with pytest.raises(TaskError, match="does not hold the classes of ILSVRC2012"):
            ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    assert not list((tmp_path / "out").iterdir())
