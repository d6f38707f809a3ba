"""Draws small pictures of originals and decoded files at one ratio, for the report (`ratebench draw`)."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image
from torch import Tensor

from benchmarks import bitstream, records, tasks
from benchmarks.errors import RateBenchError
from benchmarks.evaluation.drawing import drawn
from benchmarks.records import Record
from benchmarks.records.pictures import Pictures
from benchmarks.tasks.kinds.pictures import Picture

WIDTH, QUALITY = 192, 80  # pixels, and of WebP
FACTOR = 1.5  # files whose ratio differs by more are not shown


def draw(suite: str, results: Path, ratio: float, say: Callable[[str], None]) -> Pictures:
    """The pictures of a suite whose ratio is closest to `ratio`, of each photograph and method.

    Files that are not at hand, or not those of their records, are left out, and said. Raises RateBenchError if the suite has no
    records, codes no pictures, or has no file near the ratio, or if none of these is at hand.
    """
    known = records.stored(results, suite)
    if not known:
        msg = f"there are no records of {suite!r} in {results}: `ratebench run {suite}` makes them"
        raise RateBenchError(msg)
    chosen = _nearest(known, ratio)
    if not chosen:
        msg = f"no file of {suite!r} has a ratio near {ratio:g}: see `ratebench show {suite}`"
        raise RateBenchError(msg)
    networks = sorted({(r.task, r.network) for r in chosen.values()})
    originals = {network: _small(_original(task, network)) for task, network in networks}
    files = {path.with_suffix(".rbn"): r.provenance.artefact_sha256 for path, r in chosen.items()}
    at_hand = {file: data for file, digest in files.items() if (data := _bytes(file, digest)) is not None}
    missing = [file for file in files if file not in at_hand]
    lacking = (
        f"files of the records that are not at hand: {len(missing)} of {len(files)}, first {missing[0]}: "
        f"`ratebench run {suite} --results FOLDER` makes them elsewhere"
        if missing
        else ""
    )
    if not at_hand:
        raise RateBenchError(lacking)
    if lacking:
        say(lacking)
    artefacts = {files[file]: _small(drawn(bitstream.decode(data))) for file, data in at_hand.items()}
    return Pictures(suite=suite, ratio=ratio, width=WIDTH, originals=originals, artefacts=artefacts)


def _nearest(known: Mapping[Path, Record], ratio: float) -> dict[Path, Record]:
    """For each network and method, the first record with the ratio closest to `ratio`, if one is near."""
    groups: dict[tuple[str, str], list[tuple[float, Path]]] = {}
    for path, r in sorted(known.items()):
        if (away := abs(math.log(r.rate.ratio / ratio))) <= math.log(FACTOR):
            groups.setdefault((r.network, r.method), []).append((away, path))
    return {path: known[path] for _, path in map(min, groups.values())}


def _bytes(file: Path, digest: str) -> bytes | None:
    """The content of a file; None unless it is there and has this SHA-256."""
    data = file.read_bytes() if file.exists() else b""
    return data if hashlib.sha256(data).hexdigest() == digest else None


def _original(name: str, network: str) -> Tensor:
    """uint8 (height, width, 3)."""
    task = tasks.load(name, network)
    if not isinstance(task, Picture):
        msg = f"the networks of the task {name} draw no pictures: only suites of image coding have them"
        raise RateBenchError(msg)
    return task.train.targets.view(*task.size, 3)


def _small(pixels: Tensor) -> bytes:
    image, buffer = Image.fromarray(pixels.numpy()), io.BytesIO()
    image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    image.save(buffer, "WEBP", quality=QUALITY, method=6)
    return buffer.getvalue()
