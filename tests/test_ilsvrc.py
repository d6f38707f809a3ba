"""ILSVRC2012 from its archives: on three small classes in the same formats, killed at any moment, damaged in any way."""

from __future__ import annotations

import hashlib
import io
import math
import os
import random
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

import benchmarks.data.vision  # noqa: F401  # makes torchvision importable
from benchmarks import networks, storage
from benchmarks.data import ilsvrc, ilsvrc_folders
from benchmarks.errors import TaskError
from benchmarks.tasks import imagenet

SYNSETS = ("n01440764", "n02112137", "n02951358")
NUMBERS = (3, 1, 2)  # ILSVRC2012 numbers classes in another order than their synsets
TRUTH = (1, 3, 2, 2, 1, 3)


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    values = np.random.default_rng(seed).integers(256, size=(30, 40, 3), dtype=np.uint8)
    Image.fromarray(values).save(buffer, "JPEG")
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def packed(files: dict[str, bytes], mode: Any = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in files.items():
            add(tar, name, data)
    return buffer.getvalue()


def devkit() -> bytes:
    rows = [(number, synset, 0) for number, synset in zip(NUMBERS, SYNSETS, strict=True)] + [(4, "n00001740", 3)]
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": np.array(rows, dtype=kinds)})
    truth = "".join(f"{number}\n" for number in TRUTH).encode()
    inside = "ILSVRC2012_devkit_t12/data/"
    return packed(
        {f"{inside}meta.mat": buffer.getvalue(), f"{inside}ILSVRC2012_validation_ground_truth.txt": truth}, "w:gz"
    )


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data.dvc with three small archives beside it."""
    monkeypatch.setattr(ilsvrc_folders, "SYNSETS", SYNSETS)
    train = {f"{s}.tar": packed({f"{s}_{i}.JPEG": jpeg(10 * n + i) for i in range(4)}) for n, s in enumerate(SYNSETS)}
    val = {f"ILSVRC2012_val_0000000{i + 1}.JPEG": jpeg(100 + i) for i in range(len(TRUTH))}
    monkeypatch.setattr(ilsvrc_folders, "IMAGES", {"train": 4 * len(train), "val": len(val)})
    contents = {ilsvrc.TRAIN: packed(train), ilsvrc.VAL: packed(val), ilsvrc.DEVKIT: devkit()}
    (tmp_path / "data").mkdir()
    lines = ["outs:"]
    for name, data in contents.items():
        (tmp_path / "data" / name).write_bytes(data)
        lines += [f"- md5: {hashlib.md5(data).hexdigest()}", f"  path: data/{name}"]
    (tmp_path / "data.dvc").write_text("\n".join(lines))
    return tmp_path / "data.dvc"


def forked(work: Callable[[], object]) -> int:
    """The process id of a child that does `work` and nothing else, however that ends."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def moments(count: int, within: float) -> list[float]:
    """Random seconds below `within`; what pytest prints of a failed test has the seed."""
    seed = random.randrange(2**32)
    print(f"moments of seed {seed} within {within:.3f} s")
    chance = random.Random(seed)
    return [chance.uniform(0, within) for _ in range(count)]


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_archives_become_a_folder_for_each_class(pins: Path, tmp_path: Path) -> None:
    said: list[str] = []
    ilsvrc.prepare(tmp_path / "out", said.append, pins)
    paths, classes = ilsvrc_folders.listed(tmp_path / "out" / "train")
    assert [path.parent.name for path in paths] == [s for s in SYNSETS for _ in range(4)]
    assert classes == [0] * 4 + [1] * 4 + [2] * 4
    number_of = dict(zip(NUMBERS, SYNSETS, strict=True))
    for i, number in enumerate(TRUTH):
        image = tmp_path / "out" / "val" / number_of[number] / f"ILSVRC2012_val_0000000{i + 1}.JPEG"
        assert image.read_bytes() == jpeg(100 + i)
    _, classes = ilsvrc_folders.listed(tmp_path / "out" / "val")
    assert classes == [0, 0, 1, 1, 2, 2]
    before = tree(tmp_path / "out")
    ilsvrc.prepare(tmp_path / "out", said.append, pins)
    assert "is prepared" in said[-1] and tree(tmp_path / "out") == before


def finished(folder: Path) -> dict[str, str]:
    """What is there under its own name: a kill may leave a temporary file."""
    return {name: digest for name, digest in tree(folder).items() if ".part" not in name and "/." not in f"/{name}"}


@pytest.mark.parametrize("moment", range(1, 9))
def test_killed_at_any_moment_it_goes_on_to_the_same_files(moment: int, pins: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of renames: nothing of the process's own runs any more."""
    ilsvrc.prepare(tmp_path / "whole", lambda _: None, pins)
    rename, left = Path.rename, [moment]

    def dying(self: Path, target: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), 9)
        return rename(self, target)

    def work() -> None:
        Path.rename = Path.replace = dying  # type: ignore[method-assign]
        ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)

    child = forked(work)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and not ilsvrc.done(tmp_path / "out")
    ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    assert finished(tmp_path / "out") == finished(tmp_path / "whole")
    ilsvrc_folders.listed(tmp_path / "out" / "train")


def test_killed_at_three_random_moments_it_ends_with_the_same_files(pins: Path, tmp_path: Path) -> None:
    start = time.perf_counter()
    ilsvrc.prepare(tmp_path / "whole", lambda _: None, pins)
    took = time.perf_counter() - start
    for moment in moments(3, took):
        child = forked(lambda: ilsvrc.prepare(tmp_path / "out", lambda _: None, pins))
        time.sleep(moment)
        os.kill(child, 9)
        os.waitpid(child, 0)
    ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    assert finished(tmp_path / "out") == finished(tmp_path / "whole")


@pytest.mark.parametrize(
    ("lost", "complaint"),
    [
        (f"train/{SYNSETS[1]}", r"train does not have the 3 class folders of .* \(n02112137 missing\)"),
        (f"train/{SYNSETS[0]}/{SYNSETS[0]}_2.JPEG", "train has 11 images, not 12"),
        ("train", "can't read .*train: No such file"),
        (f"val/{SYNSETS[2]}", "val does not have the 3 class folders"),
        (f"val/{SYNSETS[2]}/ILSVRC2012_val_00000003.JPEG", "n02951358 has 1 images, not 2"),
        ("prepared.json", ""),
    ],
)
def test_what_was_lost_is_brought_back(lost: str, complaint: str, pins: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "out", list[str]()
    ilsvrc.prepare(out, said.append, pins)
    before = tree(out)
    (shutil.rmtree if (out / lost).is_dir() else Path.unlink)(out / lost)
    if complaint:
        with pytest.raises(TaskError, match=complaint):
            ilsvrc_folders.listed(out / lost.partition("/")[0])
    ilsvrc.prepare(out, said.append, pins)
    assert tree(out) == before and "is prepared" not in said[-1]
    ilsvrc.prepare(out, said.append, pins)
    assert "is prepared" in said[-1]


@pytest.mark.parametrize(
    "lost", [f"train/{SYNSETS[0]}/{SYNSETS[0]}_2.JPEG", "val/n02951358/ILSVRC2012_val_00000003.JPEG"]
)
def test_an_image_that_was_cut_short_is_unpacked_again(lost: str, pins: Path, tmp_path: Path) -> None:
    ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    before = tree(tmp_path / "out")
    truncate(tmp_path / "out" / lost)
    ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    assert tree(tmp_path / "out") == before


def test_without_archives_what_was_lost_is_told_with_their_places(pins: Path, tmp_path: Path) -> None:
    ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    shutil.rmtree(tmp_path / "data")
    ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)  # nobody needs them any more
    next((tmp_path / "out" / "val" / SYNSETS[0]).iterdir()).unlink()
    with pytest.raises(
        TaskError, match=r"missing: .*data/ILSVRC2012_img_train\.tar, .*img_val\.tar, .*devkit_t12\.tar\.gz"
    ):
        ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def test_a_missing_archive_is_named_with_its_place(pins: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / ilsvrc.VAL).unlink()
    with pytest.raises(
        TaskError, match=r"missing: .*data/ILSVRC2012_img_val\.tar: download .* or set RATEBENCH_IMAGENET"
    ):
        ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    assert not (tmp_path / "out").exists()


def test_a_truncated_archive_is_named_before_anything_is_unpacked(pins: Path, tmp_path: Path) -> None:
    truncate(tmp_path / "data" / ilsvrc.TRAIN)
    with pytest.raises(TaskError, match=r"ILSVRC2012_img_train\.tar has md5 .*: it is damaged or another file"):
        ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    assert not any((tmp_path / "out").iterdir())


def test_an_archive_that_is_damaged_after_it_was_checked_is_an_error(pins: Path, tmp_path: Path) -> None:
    path = tmp_path / "data" / ilsvrc.TRAIN
    ilsvrc._verify(ilsvrc.archives(pins)[ilsvrc.TRAIN], lambda _: None)
    stat = path.stat()
    path.write_bytes(path.read_bytes()[: stat.st_size // 2] + bytes(stat.st_size - stat.st_size // 2))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(
        TaskError, match=r"data/ILSVRC2012_img_train\.tar (has \d files, not the archives of 3|is damaged \()"
    ):
        ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    assert not ilsvrc.done(tmp_path / "out")


def test_hashes_are_taken_once(pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    monkeypatch.setattr(ilsvrc.pooch, "file_hash", lambda *_, **__: pytest.fail("read again"))
    ilsvrc.prepare(tmp_path / "again", lambda _: None, pins)


@pytest.mark.parametrize("note", [b"{", b"[1]", None])
def test_hashes_that_can_not_be_noted_are_taken_each_time(note: bytes | None, pins: Path, tmp_path: Path) -> None:
    """A damaged note, and one that can't be written (`data/` is not writable, or a folder has its name)."""
    place = tmp_path / "data" / ilsvrc.VERIFIED
    place.mkdir() if note is None else place.write_bytes(note)
    said: list[str] = []
    ilsvrc.prepare(tmp_path / "out", said.append, pins)
    assert ilsvrc.done(tmp_path / "out") and sum(line.startswith("checking") for line in said) == 3


def test_a_cache_folder_that_is_none_is_one_sentence(pins: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        storage.StorageError, match=r"^can't unpack into .*file/cache: Not a directory; run the same command"
    ):
        ilsvrc.prepare(tmp_path / "file" / "cache", lambda _: None, pins)


def test_a_disk_that_is_too_small_is_told_first(pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(storage.StorageError, match=r"needs 0\.0 GB more and has 0\.0 GB free: choose another folder"):
        ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (
            lambda val: shutil.rmtree(val / SYNSETS[1]),
            r"val does not have the 3 class folders of ILSVRC2012 \(n02112137 missing\)",
        ),
        (
            lambda val: shutil.rmtree(val),
            r"can't read .*val: No such file or directory; ILSVRC2012 has train/ and val/",
        ),
        (
            lambda val: next((val / SYNSETS[2]).iterdir()).unlink(),
            r"n02951358 has 1 images, not 2: run `ratebench prepare imagenet`",
        ),
    ],
)
def test_a_folder_that_lacks_something_says_what(harm: Any, complaint: str, pins: Path, tmp_path: Path) -> None:
    ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    harm(tmp_path / "out" / "val")
    with pytest.raises(TaskError, match=complaint):
        ilsvrc_folders.listed(tmp_path / "out" / "val")


def test_where_the_images_are(pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATEBENCH_IMAGENET", str(tmp_path / "mine"))
    assert ilsvrc.folder() == tmp_path / "mine"
    monkeypatch.delenv("RATEBENCH_IMAGENET")
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError, match="not unpacked yet: run `ratebench prepare imagenet`"):
        ilsvrc.folder()
    ilsvrc.prepare(tmp_path / "cache" / "ILSVRC2012", lambda _: None)
    assert ilsvrc.folder() == tmp_path / "cache" / "ILSVRC2012"
    (tmp_path / "data.dvc").unlink()
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(TaskError, match=r"can't read the pins of ILSVRC2012 in data\.dvc"):
        ilsvrc.folder()


def test_the_task_cuts_validation_off_each_class(pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ilsvrc.prepare(tmp_path / "out", lambda _: None, pins)
    monkeypatch.setenv("RATEBENCH_IMAGENET", str(tmp_path / "out"))
    monkeypatch.setattr(imagenet, "PER_CLASS", 2)
    train, validation = imagenet._splits.__wrapped__()
    test = imagenet.test_split.__wrapped__()
    assert [len(split) for split in (train, validation, test)] == [6, 6, 6]
    for split in (train, validation, test):
        assert sorted(split.targets.tolist()) == [0, 0, 1, 1, 2, 2]
        classes = [SYNSETS.index(path.parent.name) for path in split.inputs._paths]
        assert classes == split.targets.tolist()
        assert split.inputs[:2].shape == (2, 3, 224, 224)
    paths = [set(split.inputs._paths) for split in (train, validation)]
    assert not paths[0] & paths[1]
    assert torch.equal(test.inputs[:1], test.inputs[:1])


def test_the_command_unpacks_and_says_what_is_missing(
    pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RATEBENCH_CACHE", str(tmp_path / "cache"))
    said: list[str] = []
    imagenet.prepare(said.append)
    assert ilsvrc.done(tmp_path / "cache" / "ILSVRC2012") and "12 images for training, 6 for scoring" in said[-1]
    given = tmp_path / "given"
    shutil.copytree(tmp_path / "cache" / "ILSVRC2012", given)
    monkeypatch.setenv("RATEBENCH_IMAGENET", str(given))
    imagenet.prepare(said.append)
    assert said[-1].startswith(f"{given}: 12 images")
    shutil.rmtree(given / "train" / SYNSETS[1])
    with pytest.raises(
        TaskError, match=r"given/train does .* \(n02112137 missing\): correct .*/given, or unset RATEBENCH_IMAGENET"
    ):
        imagenet.prepare(said.append)


@pytest.mark.parametrize("name", imagenet.NETWORKS)
def test_networks_are_torchvisions_own_with_its_files(name: str) -> None:
    """URL and hash of the first published weights, and the names of their tensors, without a download."""
    from torchvision import models

    weights = models.get_model_weights(name).IMAGENET1K_V1
    known = imagenet.NETWORKS[name]
    assert known.file.url == weights.url and known.file.known_hash[7:15] == known.file.name[-12:-4]
    assert known.file.most == math.ceil(weights.meta["_file_size"]) << 20  # the download stops there
    with torch.device("meta"):
        ours, theirs = networks.build(known.architecture, known.arguments), models.get_model(name)
    assert {n: t.shape for n, t in ours.state_dict().items()} == {n: t.shape for n, t in theirs.state_dict().items()}
    preset = weights.transforms()
    assert (preset.resize_size, preset.crop_size) == ([imagenet.RESIZE], [imagenet.SIDE])
    task = imagenet.task(name)
    assert (tuple(preset.mean), tuple(preset.std)) == (task.mean, task.std)
