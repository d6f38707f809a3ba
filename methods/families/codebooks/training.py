"""Training of codewords with fixed codes: the network is decoded once per step, and gradients are summed over all layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.families.codebooks.book import Book


class Decoded(nn.Module):
    """A network whose quantised weights are decoded from codewords. Codewords, BatchNorm and biases are trained, codes are not.

    The network is not copied: its BatchNorm and biases are trained in place.
    """

    def __init__(self, network: nn.Module, books: Sequence[Book]) -> None:
        super().__init__()
        self.network = network
        self._books = books
        for parameter in network.parameters():
            parameter.requires_grad_(parameter.ndim == 1)  # weights are decoded, or were skipped and are not trained
        self.codebooks = nn.ParameterList(torch.from_numpy(book.codebooks.copy()) for book in books)
        for number, book in enumerate(books):
            offsets = np.arange(book.codes.shape[1]) * book.codebooks.shape[1]
            self.register_buffer(f"codes{number}", torch.from_numpy(book.codes + offsets))
            for place, layer in enumerate(book.layers):
                self.register_buffer(f"scale{number}_{place}", torch.from_numpy(np.asarray(layer.scale)))
                if layer.mask is not None:
                    self.register_buffer(f"mask{number}_{place}", torch.from_numpy(layer.mask))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(self.network, self.weights(), (x,))
        return output

    def weights(self) -> dict[str, Tensor]:
        """The decoded weights by path, differentiable in the codebooks."""
        found: dict[str, Tensor] = {}
        for number, book in enumerate(self._books):
            codes, words = self.get_buffer(f"codes{number}"), self.codebooks[number].flatten(0, 1)
            if book.kind == "additive":
                vectors = F.embedding_bag(codes, words, mode="sum")
            else:
                vectors = F.embedding(codes, words).flatten(1)
            pieces = vectors.split([len(layer.vectors) for layer in book.layers])
            for place, (layer, piece) in enumerate(zip(book.layers, pieces, strict=True)):
                scale = self.get_buffer(f"scale{number}_{place}")
                scale = scale.reshape(scale.shape + (1,) * (len(layer.shape) - scale.ndim))
                found[layer.path] = self._tensor(piece.flatten(), layer.shape, f"mask{number}_{place}") * scale
        return found

    def _tensor(self, values: Tensor, shape: tuple[int, ...], mask: str) -> Tensor:
        if mask not in self._buffers:
            return values[: torch.Size(shape).numel()].reshape(shape)
        kept = self.get_buffer(mask)
        return torch.zeros(shape, device=values.device).masked_scatter(kept, values[: int(kept.sum())])

    def books(self) -> list[Book]:
        """The codebooks with trained codewords."""
        trained = (words.detach().cpu().numpy() for words in self.codebooks)
        return [replace(book, codebooks=words) for book, words in zip(self._books, trained, strict=True)]
