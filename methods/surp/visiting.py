"""The order in which both sides visit coordinates: at step t, coordinate c has position (A_t·c + B_t) mod p.

p is the smallest prime >= n and A_t is not 0, so the map is a bijection of [0, p), cheap in both directions. A and B
come from a counter-based generator keyed by the seed: steps are independent, and a shorter draw is a prefix of a longer one.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.bitstream.bytesio import Ints


def smallest_prime(n: int) -> int:
    """The smallest prime >= n."""
    candidate = max(n, 2)
    while any(candidate % d == 0 for d in range(2, math.isqrt(candidate) + 1)):
        candidate += 1
    return candidate


def orders(seed: int, prime: int, count: int, skip: int = 0) -> tuple[Ints, Ints, Ints]:
    """(A, B, 1/A mod `prime`) of `count` steps after the first `skip`: Philox words reduced to [1, p) and [0, p).

    Uses only raw words and integer arithmetic, so that the draw is the same with every release of NumPy.
    """
    philox = np.random.Philox(key=seed)
    philox.advance(skip // 2)  # one block of Philox holds four words: two steps
    words = philox.random_raw(2 * (count + skip % 2)).reshape(-1, 2)[skip % 2 :]
    a = (words[:, 0] % np.uint64(prime - 1)).astype(np.int64) + 1
    b = (words[:, 1] % np.uint64(prime)).astype(np.int64)
    inverse, base, exponent = np.ones_like(a), a.copy(), prime - 2  # Fermat: 1/A = A^(p-2)
    while exponent:
        if exponent & 1:
            inverse = inverse * base % prime
        base = base * base % prime
        exponent >>= 1
    return a, b, inverse
