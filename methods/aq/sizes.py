"""Bytes of additive codes: which codebooks fit a ratio."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from benchmarks import bitstream
from benchmarks.errors import MethodError
from methods.families.codebooks import Book, VectorSettings, collect, described, weights
from methods.families.description import describe
from methods.families.slim import Slim
from methods.interface import Task

Point: TypeAlias = tuple[int, int]
SIZES = (256, 128, 64)  # codewords per codebook
MOST = 64  # codebooks
WIDTH = 2  # bytes per value of a codeword


def file_sizes(task: Task, config: VectorSettings) -> dict[Point, float]:
    """Bytes of the file for each (M, K), with log2 K bits per code; entropy coding can only make it smaller."""
    network = task.reference()
    layers = collect(weights(network, config.skip), config.dimension, config.scale)
    count = sum(len(layer.vectors) for layer in layers)
    # A file whose one-bit codes can't be compressed: the rest of its size is the same for all files.
    codes = np.random.default_rng(0).integers(2, size=(count, 1), dtype=np.int32)
    book = Book(layers, np.zeros((1, 2, config.dimension), np.float32), codes)
    smallest = len(bitstream.encode(describe(task, network, Slim(), [described(book)], {})))
    rest = smallest - count / 8 - 2 * config.dimension * WIDTH
    return {
        (m, k): rest + m * (count * (k.bit_length() - 1) / 8 + k * config.dimension * WIDTH)
        for m in range(1, MOST + 1)
        for k in SIZES
    }


def points_at(
    ratios: tuple[float, ...], task: Task, config: VectorSettings, size_of: Callable[[Point], int]
) -> tuple[Point, ...]:
    """For each ratio the (M, K) with the largest file that is not larger than 1/ratio of the reference's fp32 bytes.

    `size_of` returns the actual size of a point's file: with entropy coding, more points may fit.
    Raises MethodError for a ratio that one codebook of 64 codewords does not reach.
    """
    sizes, whole = file_sizes(task, config), task.uncompressed_bytes
    ascending = sorted(sizes, key=lambda point: (sizes[point], point))
    chosen = []
    for ratio in ratios:
        fitting = [point for point in ascending if sizes[point] <= whole / ratio]
        if not fitting:
            msg = f"a ratio of {ratio} can't be reached with vectors of {config.dimension} values: take longer ones"
            raise MethodError(msg)
        larger = itertools.takewhile(
            lambda point, most=whole / ratio: size_of(point) <= most, ascending[len(fitting) :]
        )
        chosen.append([fitting[-1], *larger][-1])
    return tuple(chosen)
