"""SuRP one coordinate at a time: repeatedly send which of the coordinates above the threshold is refined.

Step t, on both sides: T = a·mu; one coordinate m with residual above T is sent; û[m] += T; mu *= 1 - a/n. T is subtracted
from one of n residuals, so mu is always their exact mean, and nothing needs to be sent for it. When no residual is above
T, a *= decay: a new stage begins. The file contains the number of steps of each stage. n is the number of survivors, the
entries that are not zero, and a coordinate is one of them (survivors.py).

Each step draws an order of all coordinates for both sides (visiting.py). The position of the first candidate in
this order is sent: a geometric variable with log2(e·n/candidates) bits. The decoder computes the coordinate from it directly.

A file is a prefix of the pass: the first steps are the same for every operating point.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bitstream.bytesio import Ints, Reader, pack_bits, read_rice, unpack_bits, varints, write_rice
from benchmarks.bitstream.codecs.raw import from_floats, to_floats
from benchmarks.bitstream.entropy import decode_integers, encode_integers
from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part
from methods.surp.source import FLOOR, Floats, Source, mean_magnitude, scalars, wanted, weights
from methods.surp.survivors import pack, unpack
from methods.surp.visiting import orders, smallest_prime

NAME = "surp.sequential"
BLOCK = 4096  # steps whose thresholds and orders are computed together
TOGETHER = 2**16  # steps whose orders the decoder computes together
RUN = 32  # steps that share a Rice parameter
MAX_LOW_BITS = 31


@dataclass(frozen=True)
class Pass:
    """The result of one pass over a source.

    `survivors` are the indices of the entries that are not zero. `positions` (one per step) are the values sent,
    `coordinates` the ranks of the survivors that they select. `stages` is the number of steps before each lowering of
    `alpha`; `marks[i]` is the number of steps after which the i-th of the sparsities, highest first, was reached.
    """

    mu: float
    alpha: float
    decay: float
    seed: int
    survivors: Ints
    positions: Ints
    coordinates: Ints
    stages: tuple[int, ...]
    marks: tuple[int, ...]


def ladder(mu: float, alpha: float, n: int, count: int) -> Floats:
    """Mean residuals before each of `count` steps and after the last: count + 1 values, rounded step by step."""
    factors = np.full(count + 1, 1 - alpha / n)
    factors[0] = mu
    return np.cumprod(factors)


class _Candidates:
    """Coordinates with a residual above a threshold that never rises; untouched ones are sorted, others in a heap."""

    def __init__(self, u: Floats, prime: int) -> None:
        self.prime = prime
        self.residual = u.copy()
        self.order = np.argsort(-u)
        self.keys = np.append(-u[self.order], np.inf)  # ascending, with a sentinel
        self.next, self.next_key = 0, float(self.keys[0])
        self.heap: list[tuple[float, int]] = []
        self.where = np.full(prime, -1, np.int32)  # index in `members`, or -1; also the membership bitmap
        self.members = np.empty(len(u), np.int64)
        self.count = 0

    def admit(self, threshold: float) -> None:
        """Add all coordinates with a residual above `threshold`, which never rises."""
        if -self.next_key > threshold:
            end = self.next + int(np.searchsorted(self.keys[self.next :], -threshold))
            fresh = self.order[self.next : end]
            self.members[self.count : self.count + len(fresh)] = fresh
            self.where[fresh] = np.arange(self.count, self.count + len(fresh))
            self.count += len(fresh)
            self.next, self.next_key = end, float(self.keys[end])
        while self.heap and -self.heap[0][0] > threshold:
            self._add(heapq.heappop(self.heap)[1])

    def _add(self, coordinate: int) -> None:
        self.members[self.count] = coordinate
        self.where[coordinate] = self.count
        self.count += 1

    def first(self, a: int, b: int, inverse: int) -> tuple[int, int]:
        """(position, coordinate) of the first candidate in the order (a, b)."""
        if self.count * self.count <= 16 * self.prime:  # few: compute each position (a look-up costs 16)
            positions = (self.members[: self.count] * a + b) % self.prime
            nearest = int(positions.argmin())
            return int(positions[nearest]), int(self.members[nearest])
        width = self.prime // self.count + 16  # many: look up which comes first
        for start in range(0, self.prime, width):
            line = (np.arange(start - b, min(start + width, self.prime) - b) * inverse) % self.prime
            hits = self.where[line] >= 0
            hit = int(hits.argmax())
            if hits[hit]:
                return start + hit, int(line[hit])
        raise AssertionError("there are candidates, so one of them comes first")

    def refine(self, coordinate: int, threshold: float, following: float) -> None:
        """Subtract `threshold`; the coordinate is removed unless it is also above the `following` threshold."""
        left = float(self.residual[coordinate]) - threshold
        self.residual[coordinate] = left
        if left <= following:
            slot, self.count = int(self.where[coordinate]), self.count - 1
            last = int(self.members[self.count])
            self.members[slot] = last
            self.where[last] = slot
            self.where[coordinate] = -1
            heapq.heappush(self.heap, (-left, coordinate))


def _drawn(seed: int, prime: int) -> Iterator[tuple[int, int, int]]:
    skip = 0
    while True:
        yield from zip(*(x.tolist() for x in orders(seed, prime, BLOCK, skip)), strict=True)
        skip += BLOCK


def select(
    u: Floats, sparsities: Sequence[float], seed: int, alpha: float, decay: float = 0.9, floor: float = FLOOR
) -> Pass:
    """One pass over magnitudes `u` down to the lowest of `sparsities` (of all entries), without an O(n) step in its loop.

    It ends early when the mean residual has fallen to `floor` of the mean magnitude: its end is then the last mark.
    """
    goals, kept = wanted(sparsities, len(u)), np.flatnonzero(u)
    u = u[kept]
    n = len(u)
    mu = mean_magnitude(u)
    start, a, stop = mu, alpha, floor * mu
    prime = smallest_prime(n)
    pool, draws = _Candidates(u, prime), _drawn(seed, prime)
    touched = bytearray(n)
    non_zeros, in_stage = 0, 0
    positions: list[int] = []
    coordinates: list[int] = []
    stages: list[int] = []
    marks: list[int] = []
    means, at = [mu], 0
    while mu > stop:
        while len(marks) < len(goals) and non_zeros >= goals[len(marks)]:
            marks.append(len(positions))
        if len(marks) == len(goals):
            break
        threshold = a * mu
        if a < n:  # otherwise T would be above n times the mean, which no residual exceeds
            pool.admit(threshold)
        if pool.count == 0:
            stages.append(in_stage)
            in_stage = 0
            a *= decay
            means, at = [mu], 0
            continue
        if at + 1 == len(means):
            means, at = ladder(mu, a, n, BLOCK).tolist(), 0
        position, coordinate = pool.first(*next(draws))
        at += 1
        mu = means[at]
        pool.refine(coordinate, threshold, a * mu)
        positions.append(position)
        coordinates.append(coordinate)
        in_stage += 1
        if not touched[coordinate]:
            touched[coordinate] = 1
            non_zeros += 1
    stages.append(in_stage)
    if len(marks) < len(goals):
        marks.append(len(positions))
    sent, meant = np.array(positions, np.int64), np.array(coordinates, np.int64)
    return Pass(start, alpha, decay, seed, kept, sent, meant, tuple(stages), tuple(marks))


def replay(n: int, mu: float, alpha: float, decay: float, stages: Sequence[int], coordinates: Ints) -> Floats:
    """û (n,) after the steps with these `coordinates`; additions are made in the order of the steps."""
    thresholds, left, a = [], len(coordinates), alpha
    for length in stages:
        taken = min(length, left)
        if taken:
            means = ladder(mu, a, n, taken)
            thresholds.append(a * means[:-1])
            mu, left = float(means[-1]), left - taken
        a *= decay
    u_hat = np.zeros(n)
    if thresholds:
        np.add.at(u_hat, coordinates, np.concatenate(thresholds))
    return u_hat


def touches(coordinates: Ints) -> Ints:
    """Each coordinate once, in the order of its first step: the order of the signs."""
    return coordinates[np.sort(np.unique(coordinates, return_index=True)[1])]


def _best_bits(positions: Ints) -> Ints:
    """The Rice parameter that gives the shortest code for each run of RUN positions.

    Only the encoder knows the number of candidates, and it is not smooth: it decreases within a stage, unless lower
    thresholds add as many candidates as leave. A parameter per RUN steps costs 0.1 bit per step and follows these changes.
    """
    starts = np.arange(0, len(positions), RUN)
    sizes = np.diff(starts, append=len(positions))
    costs = [np.add.reduceat(positions >> k, starts) + k * sizes for k in range(MAX_LOW_BITS + 1)]
    best: Ints = np.argmin(costs, axis=0)
    return best


def part(targets: Sequence[str], source: Source, sizes: Sequence[int], made: Pass, steps: int) -> Part:
    """Code the tensors `targets` of `sizes`, from which `source` was made, by the first `steps` of a pass."""
    data = {"source": source, "sizes": tuple(sizes), "pass": made, "steps": int(steps)}
    return Part(NAME, tuple(targets), "indices", data)


def encode(part: Part) -> Coded:
    source, made, steps = part.data["source"], part.data["pass"], part.data["steps"]
    ends = np.cumsum(made.stages)
    stages = made.stages[: int(np.searchsorted(ends, steps)) + 1] if steps else ()
    positions = made.positions[:steps]
    low_bits = _best_bits(positions) if steps else positions
    unary, remainders = write_rice(positions, np.repeat(low_bits, RUN)[:steps])
    signs = pack_bits(source.negative[made.survivors[touches(made.coordinates[:steps])]])
    meta = {"mu": made.mu, "alpha": made.alpha, "decay": made.decay, "seed": made.seed, "steps": steps}
    adaptive, masks = pack(made.survivors, part.data["sizes"])
    norms = to_floats(source.norms, "float32", f"the norm of {part.targets[0]} or of a later tensor")
    return Coded(
        {**meta, **adaptive},
        (
            ("indices", varints(stages)),
            ("indices", encode_integers(low_bits)),
            ("indices", unary),
            ("indices", remainders),
            ("weights", signs),
            *(("indices", mask) for mask in masks),
            ("weights", norms),
        ),
    )


def decode(
    meta: Mapping[str, Any], streams: list[bytes], shapes: list[tuple[int, ...]]
) -> list[npt.NDArray[np.float32]]:
    table, parameters, unary, remainders, signs, *masks, norms_stream = streams
    kept = unpack(meta, masks, shapes)
    n = len(kept)
    mu, alpha, decay = scalars(meta)
    steps, seed = meta["steps"], meta["seed"]
    norms = from_floats(norms_stream, "float32")
    valid = isinstance(steps, int) and isinstance(seed, int) and 0 <= steps <= 8 * len(unary) and 0 <= seed < 2**64
    if not valid or len(norms) != len(shapes) or (norms < 0).any():
        raise BitstreamError("a SuRP part is malformed: the file is damaged")
    stages = _stages(table, steps, n, alpha, decay)
    prime = smallest_prime(n)
    low_bits = decode_integers(parameters, -(-steps // RUN))
    if steps and not 0 <= int(low_bits.min()) <= int(low_bits.max()) <= MAX_LOW_BITS:
        raise BitstreamError("a SuRP part has an impossible Rice parameter: the file is damaged")
    positions = read_rice(unary, remainders, np.repeat(low_bits, RUN)[:steps])
    if steps and int(positions.max()) >= prime:
        raise BitstreamError("a SuRP position is beyond the last one: the file is damaged")
    coordinates = np.empty(steps, np.int64)
    for start in range(0, steps, TOGETHER):
        own = positions[start : start + TOGETHER]
        _, b, inverse = orders(seed, prime, len(own), start)
        coordinates[start : start + TOGETHER] = (own + (prime - b)) % prime * inverse % prime
    if steps and int(coordinates.max()) >= n:
        raise BitstreamError("a SuRP position belongs to no weight: the file is damaged")
    touched = touches(coordinates)
    negative = unpack_bits(signs, len(touched)).astype(bool)
    u_hat = np.zeros(sum(map(math.prod, shapes)))
    u_hat[kept] = replay(n, mu, alpha, decay, stages, coordinates)
    return weights(u_hat, kept[touched], negative, norms, shapes)


def _stages(table: bytes, steps: int, n: int, alpha: float, decay: float) -> list[int]:
    """The stage table, checked: it ends in the stage of the last step, and no step is taken at alpha >= n."""
    reader, stages, left = Reader(table), [], steps
    while left > 0:
        stages.append(reader.varint(2**40))
        if stages[-1] and alpha >= n:
            raise BitstreamError("a SuRP stage refines what can't exceed its threshold: the file is damaged")
        left -= stages[-1]
        alpha *= decay
    reader.end()
    return stages
