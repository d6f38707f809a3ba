"""The local search of search.py in torch, for all vectors of a chunk at once: for GPUs, and on other devices for comparison.

A step recomputes the sums of one codebook's K values (M rows of K per vector) instead of updating those of all M: on a
GPU, reads from a small table are cheap, and writes of M·K numbers per vector are expensive.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1 << 16  # vectors at a time: the single terms take 4·M·K bytes per vector


@torch.no_grad()
def local_search(
    x: Tensor, codebooks: Tensor, codes: Tensor, rounds: int, sweeps: int, moves: int, seed: int
) -> Tensor:
    """Codes (n, M) for vectors (n, d) and codebooks (M, K, d), all on one device; the error of no vector increases.

    The same search as `search.local_search` with other random numbers.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    books, size, dimension = codebooks.shape
    flat = codebooks.reshape(-1, dimension)
    # The diagonal blocks are zero, so that the sums for one codebook can be taken over the codes of all codebooks.
    pairs = (2 * flat @ flat.T).reshape(books, size, books, size)
    pairs[torch.arange(books), :, torch.arange(books)] = 0
    tables = pairs.permute(2, 0, 1, 3).reshape(books, books * size, size)
    offsets = size * torch.arange(books, device=x.device)

    def error(own: Tensor, rows: Tensor) -> Tensor:
        return (own - F.embedding_bag(rows, flat, mode="sum")).square().sum(1)

    found = []
    for own, best in zip(x.split(CHUNK), (codes.long() + offsets).split(CHUNK), strict=True):
        single = (flat.square().sum(1) - 2 * own @ flat.T).view(len(own), books, size)
        least = error(own, best)
        for _ in range(max(rounds, 1)):
            rows = best.clone()
            for _ in range(moves if rounds else 0):
                book = torch.randint(books, (len(own), 1), generator=generator, device=x.device)
                value = torch.randint(size, (len(own), 1), generator=generator, device=x.device)
                rows.scatter_(1, book, value + size * book)
            for _ in range(sweeps):
                for m in range(books):
                    sums = single[:, m] + F.embedding_bag(rows, tables[m], mode="sum")
                    rows[:, m] = sums.argmin(1) + m * size
            changed = error(own, rows)
            better = changed < least
            best, least = torch.where(better[:, None], rows, best), torch.where(better, changed, least)
        found.append((best - offsets).int())
    return torch.cat(found)
