"""Checks the values of one record against each other: all that can be computed from other values is computed again.

The schema bounds single values. Names of tasks and methods need not exist: records outlive code.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from benchmarks import configuration
from benchmarks.errors import DamagedRecord
from benchmarks.evaluation.metrics import ROUNDING, Sums, interval
from benchmarks.records import described
from benchmarks.records.schema import ITEMS, REFERENCE, ROLES, CellState, Record, Score
from methods.interface import Metric

_KINDS = ("md5:", "sha1:", "sha256:")
_HASH = re.compile("md5:[0-9a-f]{32}|sha1:[0-9a-f]{40}|sha256:([0-9a-f]{8}|[0-9a-f]{64})")
_MOST = 20_000  # choices of settings that are tried to explain the hash of a configuration


def check(known: Record | CellState) -> None:
    """Raise DamagedRecord, without the file's name, if the values contradict each other."""
    wrong = next(_record(known) if isinstance(known, Record) else _state(known), None)
    if wrong is not None:
        raise DamagedRecord(wrong)


def _state(known: CellState) -> Iterator[str]:
    if known.status == "complete" and known.points == 0:
        yield "it is complete, but has no point"
    if (known.status == "failed") != bool(known.error):
        yield f"its status is {known.status!r}, but its error is {known.error!r}"


def _record(known: Record) -> Iterator[str]:
    yield from _identity(known)
    yield from _rate(known)
    counted, speed, origin = known.counted, known.speed, known.provenance
    if counted.nonzero > counted.elements:
        yield f"{counted.nonzero:,} of {counted.elements:,} values are not zero"
    if not known.metrics:
        yield "it has no metric"
    for name, score in known.metrics.items():
        if not _agrees(known.task, name, score):
            yield f"the sums, the value and the interval of {name!r} do not agree"
    if known.metrics and known.validation and not _agrees(known.task, known.metric, known.validation):
        yield "the sums, the value and the interval of the validation score do not agree"
    if speed.device != (machine := origin.cpu if origin.gpu is None else origin.gpu):
        yield f"it was timed on {speed.device!r}, but measured on {machine!r}"
    yield from _origin(known)
    try:
        msgspec.msgpack.encode((known.config, known.point, known.notes))
    except OverflowError:
        yield "its config, point or notes hold an integer beyond 64 bits"


def _identity(known: Record) -> Iterator[str]:
    cell = f"{known.suite}/{known.network}/{known.method}/{known.config_hash}-{known.budget}-s{known.seed}"
    if known.id != (made := f"{cell}/p{known.index:02d}"):
        yield f"its id is {known.id!r}, but its values are those of {made!r}"
    if not _explains(msgspec.json.encode(known.config), known.config_hash):
        yield f"its config_hash {known.config_hash!r} is not that of any of its settings"
    if known.budget == "post-training" and known.epochs != 0:
        yield f"the budget is post-training, but its epochs are {known.epochs}"
    if known.learning_rate is not None and not known.epochs:
        yield f"its budget has no number of epochs, but the learning rate {known.learning_rate}"


@functools.lru_cache(maxsize=256)
def _explains(config: bytes, name: str) -> bool:
    """Whether some of the settings have the hash `name`; also true if there are too many choices to try.

    Those were the changes from the method's defaults at that time. Its code may have other defaults now, or be gone.
    """
    settings = list(msgspec.json.decode(config).items())
    choices = itertools.chain.from_iterable(itertools.combinations(settings, n) for n in range(len(settings) + 1))
    tried = itertools.islice(choices, _MOST)
    return 2 ** len(settings) > _MOST or any(configuration.config_hash(dict(one)) == name for one in tried)


def _rate(known: Record) -> Iterator[str]:
    rate = known.rate
    if unknown := rate.by_role.keys() - set(ROLES):
        yield f"{min(unknown)!r} is no role of bytes"
    if (total := sum(rate.by_role.values())) != rate.file_bytes:
        yield f"the file has {rate.file_bytes:,} bytes, but its roles add up to {total:,}"
    if not _equal(rate.ratio, rate.uncompressed_bytes / rate.file_bytes):
        yield f"the ratio is {rate.ratio}, but {rate.uncompressed_bytes:,} / {rate.file_bytes:,} bytes"
    if rate.bits_per_weight is not None:
        values = rate.uncompressed_bytes / 4  # in fp32
        if not _equal(rate.bits_per_weight, 8 * rate.file_bytes / values):
            yield f"bits_per_weight is {rate.bits_per_weight}, but the file has 8 × {rate.file_bytes:,} / {values:,.0f}"


def _agrees(task: str, name: str, score: Score) -> bool:
    return any(_fits(kind, score) for kind in _kinds(task, name))


def _kinds(task: str, name: str) -> list[Metric]:
    """The metric, or a proportion and a mean if the installed code does not define it."""
    defined = [one for one in described.metrics(task) if one.name == name]
    return defined or [Metric(name, "", "proportion", ""), Metric(name, "", "mean", "")]


def _fits(metric: Metric, score: Score) -> bool:
    """Whether a score's value and interval are those of its sums, and its sums are possible."""
    items, total, squares = score.items, score.total, score.squares
    if metric.kind == "proportion":
        possible = 0 <= total <= items and total == squares and total == int(total)
    else:
        possible = squares * (1 + ROUNDING) >= total / items * total
    if not possible:
        return False
    scale = math.sqrt(max(squares, 0.0) / items)  # positive and negative values may cancel in the total
    try:
        wanted = (total / items, *interval(metric, Sums(items, total, squares)))
    except OverflowError:
        return False
    return all(_equal(a, b, scale) for a, b in zip((score.value, score.low, score.high), wanted, strict=True))


def _origin(known: Record) -> Iterator[str]:
    origin = known.provenance
    try:
        time = datetime.fromisoformat(origin.started).astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        time = None
    if time != origin.started:
        yield f"it was started at {origin.started!r}, which is no time in ISO 8601 and UTC"
    for name, value in origin.data.items():
        if (value.startswith(_KINDS) or name in (REFERENCE, ITEMS)) and not _HASH.fullmatch(value):
            yield f"{value!r} of {name!r} is no hash"
    if not _runs(known):
        yield f"{origin.command!r} is not the command that measures its cell"


def _runs(known: Record) -> bool:
    """Whether the recorded command runs the record's cell; older releases did not name the configuration."""
    origin, config = known.provenance, f" --config {known.config_hash}"
    micro = f"RATEBENCH_MICRO={origin.micro} " if origin.micro else ""
    together = f"torchrun --nproc-per-node {origin.processes} --no-python " if origin.processes > 1 else ""
    start = f"{micro}{together}ratebench run {known.suite} --method {known.method} --network {known.network}"
    end = f" --budget {known.budget} --seed {known.seed}"
    return origin.command in (start + config + end, start + end)


def _equal(a: float, b: float, scale: float = 0.0) -> bool:
    """Whether two numbers are equal up to rounding; `scale` is the size of what was added up to them."""
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9 * scale)
