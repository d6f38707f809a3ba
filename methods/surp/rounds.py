"""SuRP in rounds: one threshold per round, and all coordinates above it are refined at once.

Round r, on both sides: T = a·mu; T is subtracted from every residual, and added to its û, until it is not above T (usually
once, more often in small tensors); mu -= T·(number of subtractions)/survivors, where survivors are the entries that are not
zero; a *= decay. No order is sent: the rate is lower, and the result is deterministic. A round sends *which* coordinates are
refined:

* untouched ones by the gaps between them. Tensors come in order of size: normalised weights of tensors of similar
  size have similar scale, so each run of sizes within a factor of two has its own count and therefore its own Rice parameter;
* touched ones by one range-coded bit each, sent only if both answers are possible: both sides know that the residual is
  below `bound` (the last threshold that it did not exceed, minus later subtractions). If bound <= T, nothing is sent;
  otherwise the residual is modelled as uniform below the bound: P(above T) = (bound - T) / bound.

A file is a prefix of the rounds, followed by a last round with a higher T that gives exactly the requested sparsity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt

from benchmarks.bitstream import integers
from benchmarks.bitstream.bytesio import Ints, Reader, pack_bits, read_fields, unpack_bits, varints, write_fields
from benchmarks.bitstream.codecs.raw import from_floats, to_floats
from benchmarks.bitstream.entropy import decode_integers, encode_integers
from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part, Role
from methods.surp.knowledge import LEVELS, Knowledge, mean_after
from methods.surp.source import FLOOR, Bools, Floats, Source, mean_magnitude, rice_bits, scalars, wanted, weights

NAME = "surp.rounds"
MAX_ROUNDS = 2**11
WORK_PER_BYTE = 512  # touched coordinates of all rounds; a pass over weights of any distribution has about 10
ANY_QUESTIONS = 1024  # that a file may ask, however short
_NONE: Ints = np.zeros(0, np.int64)
_BITS = constriction.stream.model.Bernoulli(perfect=False)


@dataclass(frozen=True)
class Round:
    """The coordinates that a round refines, ascending, and how many times the threshold is subtracted from each."""

    coordinates: Ints
    times: Ints


@dataclass(frozen=True)
class Mark:
    """An operating point: a number of whole rounds, then (if there is a `cut`) one more with its own `threshold`."""

    rounds: int
    threshold: float = 0.0
    cut: Round | None = None


@dataclass(frozen=True)
class Pass:
    """The result of one pass: its rounds, and a mark for each sparsity reached, highest first.

    `survivors` is the number of magnitudes that are not zero; `mu` is their mean.
    """

    survivors: int
    mu: float
    alpha: float
    decay: float
    rounds: tuple[Round, ...]
    marks: tuple[Mark, ...]


def select(u: Floats, sparsities: Sequence[float], alpha: float, decay: float = 0.95, floor: float = FLOOR) -> Pass:
    """One pass over magnitudes `u` (n,) down to the lowest of `sparsities`, in O(n) per round.

    It ends early when the mean residual has fallen to `floor` of the mean magnitude: its end is then the last mark.
    """
    n = len(u)
    goals = wanted(sparsities, n)
    survivors, start = int(np.count_nonzero(u)), mean_magnitude(u)
    mu, a, stop, non_zeros = start, alpha, floor * start, 0
    residual, touched = u.copy(), np.zeros(n, bool)
    rounds: list[Round] = []
    marks: list[Mark] = []
    while mu > stop and len(marks) < len(goals):
        threshold = a * mu
        hits = np.flatnonzero(residual > threshold)
        fresh = -np.sort(-residual[hits[~touched[hits]]])
        while len(marks) < len(goals) and goals[len(marks)] <= non_zeros + len(fresh):
            missing = goals[len(marks)] - non_zeros
            if missing == 0:
                marks.append(Mark(len(rounds)))
            else:
                higher = float(fresh[missing]) if missing < len(fresh) else threshold
                above = hits[residual[hits] > higher]
                marks.append(Mark(len(rounds), higher, Round(above, _subtract(residual[above], higher))))
        left = residual[hits]
        rounds.append(Round(hits, _subtract(left, threshold)))
        residual[hits] = left
        touched[hits] = True
        non_zeros += len(fresh)
        mu, a = mean_after(mu, threshold, int(rounds[-1].times.sum()), survivors), a * decay
    if len(marks) < len(goals):
        marks.append(Mark(len(rounds)))
    return Pass(survivors, start, alpha, decay, tuple(rounds), tuple(marks))


def _subtract(residual: Floats, threshold: float) -> Ints:
    """Subtract `threshold` from every entry, in place, until none is above it; returns how many times for each."""
    times = np.zeros(len(residual), np.int64)
    above = np.flatnonzero(residual > threshold)
    while len(above):
        residual[above] -= threshold
        times[above] += 1
        above = above[residual[above] > threshold]
    return times


def runs(sizes: Sequence[int]) -> Ints:
    """Total sizes of the runs of neighbouring tensors with the same floor(log2(size))."""
    lengths: list[int] = []
    previous = -1
    for size in sizes:
        if size.bit_length() == previous:
            lengths[-1] += size
        else:
            lengths.append(size)
        previous = size.bit_length()
    return np.array(lengths, np.int64)


def _gap_bits(table: Ints, lengths: Ints) -> Ints:
    """Rice parameters of all gaps; `table` counts the untouched coordinates that each round (row) hit in each run."""
    untouched = lengths - (np.cumsum(table, axis=0) - table)
    return np.repeat(rice_bits(untouched, table).ravel(), table.ravel())


def part(targets: Sequence[str], source: Source, sizes: Sequence[int], made: Pass, mark: Mark) -> Part:
    """Code the tensors `targets` of `sizes`, from which `source` was made, at one mark of a pass."""
    data = {"source": source, "sizes": tuple(sizes), "pass": made, "mark": mark}
    return Part(NAME, tuple(targets), "indices", data)


def encode(part: Part) -> Coded:
    source, made, mark = part.data["source"], part.data["pass"], part.data["mark"]
    rounds = [*made.rounds[: mark.rounds], *([mark.cut] if mark.cut else [])]
    if len(rounds) > MAX_ROUNDS:
        msg = (
            f"SuRP took {len(rounds)} rounds, more than the {MAX_ROUNDS} that a file may have: choose a higher sparsity"
        )
        raise BitstreamError(msg)
    lengths = runs(part.data["sizes"])
    known = Knowledge(lengths, made.survivors, made.mu, made.alpha, made.decay)
    due = np.zeros(len(source.u), np.int32)  # how many times each coordinate is above the threshold of this round
    table, gaps, bits, levels = [_NONE], [_NONE], [_NONE], [_NONE]

    def answer(coordinates: Ints, level: Ints) -> Bools:
        above: Bools = due[coordinates] > 0
        due[coordinates[above]] -= 1
        bits.append(above.astype(np.int64))
        levels.append(level)
        return above

    for index, made_round in enumerate(rounds):
        fresh = np.setdiff1d(made_round.coordinates, known.coordinates, assume_unique=True)
        gap, counts = known.gaps(fresh)
        gaps.append(gap)
        table.append(counts)
        due[made_round.coordinates] = made_round.times
        due[fresh] -= 1
        known.refine(known.alpha * known.mu if index < mark.rounds else mark.threshold, fresh, answer)
    counted = np.concatenate(table).reshape(-1, len(lengths))
    values, low = np.concatenate(gaps), _gap_bits(counted, lengths)
    quotients = values >> low
    adaptive, coded = integers.shorter([quotients], encode_integers(quotients))
    coder = constriction.stream.queue.RangeEncoder()
    coder.encode(np.concatenate(bits).astype(np.int32), _BITS, np.concatenate(levels) / LEVELS)
    norms = to_floats(source.norms, "float32", f"the norm of {part.targets[0]} or of a later tensor")
    streams: tuple[tuple[Role, bytes], ...] = (
        ("indices", varints(counted.ravel().tolist())),
        ("indices", coded),
        ("indices", write_fields(values & ((1 << low) - 1), low)),
        ("indices", coder.get_compressed().astype("<u4").tobytes()),
        ("weights", pack_bits(source.negative[known.coordinates])),
        ("weights", norms),
    )
    if len(bits) - 1 > _most_questions(known.n, [stream for _, stream in streams]):
        raise BitstreamError("SuRP's first threshold is so low that no decoder would follow it: choose a higher alpha")
    meta = {"mu": made.mu, "alpha": made.alpha, "decay": made.decay, "rounds": mark.rounds, "last": mark.threshold}
    pruned = {"survivors": made.survivors} if made.survivors < len(source.u) else {}
    return Coded({**meta, **pruned, **adaptive}, streams)


def _most_questions(n: int, streams: Sequence[bytes]) -> int:
    """How often the decoder of n values may ask which of the touched coordinates are above a threshold.

    A round asks once for each time that a residual exceeds its threshold: about once, but more often in the first round, up to
    n / alpha times for each tensor. An answer may take so few bits that they alone would limit nothing.
    """
    return ANY_QUESTIONS + min(2**11, n // 64) + 2 * sum(map(len, streams))


def decode(
    meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]
) -> list[npt.NDArray[np.float32]]:
    table_stream, quotients, remainders, refinements, signs, norms_stream = streams
    lengths = runs([math.prod(shape) for shape in shapes])
    survivors = meta.get("survivors", int(lengths.sum()))
    whole, last = meta["rounds"], float(meta["last"])
    norms = from_floats(norms_stream, "float32")
    valid = isinstance(whole, int) and 0 <= whole < MAX_ROUNDS and 0 <= last < np.inf and len(refinements) % 4 == 0
    valid = valid and isinstance(survivors, int) and (0 < survivors <= lengths.sum() or whole == last == survivors == 0)
    if not valid or len(norms) != len(shapes) or (norms < 0).any():
        raise BitstreamError("a SuRP part is malformed: the file is damaged")
    known = Knowledge(lengths, survivors, *scalars(meta))
    table = _table(table_stream, whole + (last > 0), lengths)
    total = int(table.sum())
    if total > survivors:
        raise BitstreamError("a SuRP part refines more weights than survive: the file is damaged")
    negative = unpack_bits(signs, total).astype(bool)  # also proves that `total` is not larger than the stream allows
    low = _gap_bits(table, lengths)
    if meta.get(integers.ADAPTIVE):
        (high,) = integers.decode(meta, quotients, [(total,)])
    else:
        high = decode_integers(quotients, total)
    if total and not 0 <= int(high.min()) <= int(high.max()) <= known.n:
        raise BitstreamError("a SuRP gap is longer than its tensors: the file is damaged")
    if int(np.cumsum(table.sum(axis=1)).sum()) > WORK_PER_BYTE * sum(map(len, streams)):
        raise BitstreamError("a SuRP part has too many rounds for its weights: the file is damaged or hostile")
    values = (high << low) + read_fields(remainders, low)
    if total and int(values.max()) > known.n:
        raise BitstreamError("a SuRP gap is longer than its tensors: the file is damaged")
    gaps = np.split(values, np.cumsum(table.sum(axis=1))[:-1])
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(refinements, "<u4").astype(np.uint32))
    answers = 45 * (8 * len(refinements) + 64)  # an answer of probability 63/64 takes 1/44 of a bit
    questions = _most_questions(known.n, streams)

    def read(_: Ints, level: Ints) -> Bools:
        nonlocal answers, questions
        answers, questions = answers - len(level), questions - 1
        if min(answers, questions) < 0:
            raise BitstreamError("a SuRP part needs more bits than its stream contains: the file is damaged")
        try:
            return np.asarray(coder.decode(_BITS, level / LEVELS)).astype(bool)
        except Exception as error:  # constriction raises its own kinds for invalid data
            raise BitstreamError("a range-coded stream can't be decoded: the file is damaged") from error

    for index, counts in enumerate(table):
        threshold = known.alpha * known.mu if index < whole else last
        if not threshold > 0:
            raise BitstreamError("a SuRP round has no threshold: the file is damaged")
        known.refine(threshold, known.place(gaps[index], counts), read)
    if not coder.maybe_exhausted():
        raise BitstreamError("a range-coded stream is longer than its symbols: the file is damaged")
    u_hat = np.zeros(known.n)
    u_hat[known.coordinates] = known.u_hat
    return weights(u_hat, known.coordinates, negative, norms, shapes)


def _table(stream: bytes, rounds: int, lengths: Ints) -> Ints:
    """Untouched coordinates hit by round and run, checked against the lengths of the runs."""
    if rounds * len(lengths) > len(stream):
        raise BitstreamError("a SuRP part has more rounds than its stream can contain: the file is damaged")
    reader, limit = Reader(stream), int(lengths.max()) + 1
    values = [reader.varint(limit) for _ in range(rounds * len(lengths))]
    reader.end()
    table = np.array(values, np.int64).reshape(rounds, len(lengths))
    if (table.sum(axis=0) > lengths).any():
        raise BitstreamError("a SuRP part touches more weights than there are: the file is damaged")
    return table
