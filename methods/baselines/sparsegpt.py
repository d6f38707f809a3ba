"""One-shot pruning with error feedback: what a weight loses when it becomes zero is answered by later weights of its filter.

SparseGPT (Frantar and Alistarh, ICML 2023), after Optimal Brain Surgeon (Hassibi and Stork, 1992), for convolutional networks.
As in the paper, weights are selected while the columns of a layer are visited, after the errors of earlier columns have reached
them. There, each layer loses the same share, by w² / U_jj². Here, one threshold on |w| for all layers gives each its share, as
in the baseline `magnitude`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.bitstream.codecs import sparse
from benchmarks.training import control_variate
from benchmarks.training.batchnorm import conv_bn_pairs
from methods.families import curvature, feedback, grid, storage
from methods.families.limits import Count, Share, check_order
from methods.families.norms import norm_parts
from methods.interface import Budget, Card, Compressed, Run, Task

CARD = Card(
    key="sparsegpt",
    title="SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot",
    authors=("Elias Frantar", "Dan Alistarh"),
    venue="ICML",
    year=2023,
    families=("unstructured pruning",),
    fidelity="baseline",
    arxiv="2301.00774",
    code="https://github.com/IST-DASLab/sparsegpt",
    note="For convolutional networks, with one threshold on magnitudes for all layers.",
)
BITS = 8
DAMPING = 0.02
TOLERANCE = 0.0005  # of a sparsity


@dataclass(frozen=True)
class Config:
    """`sparsities` are shares of conv and linear weights set to zero, one point each.

    Kept weights are rounded to BITS bits, with the same feedback, and entropy coded; other values are fp16. What is known
    about the inputs of layers comes from `recalibrate` unlabelled images, by which BatchNorm is corrected, too.
    """

    sparsities: tuple[Share, ...] = (0.1, 0.36, 0.5904, 0.7379, 0.8322, 0.893, 0.94, 0.98)
    recalibrate: Count = 500

    def __post_init__(self) -> None:
        check_order("sparsities", self.sparsities)

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(self.sparsities)


def unsupported(task: Task, config: Config) -> str | None:
    """None; a network with tied weights, or one that can't be traced, is refused when it is compressed."""
    return None


@torch.no_grad()
def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """Points from dense to sparse, each from the reference; statistics are measured once for all."""
    storage.check_names(task)
    reference = task.reference().to(run.device)
    known = control_variate.control(task.reference(), task, config.recalibrate)
    pruned = _Pruned(reference, task, config)
    for sparsity in config.sparsities:
        codes = pruned.at(sparsity)
        network = task.reference()
        for path, own in codes.items():
            pruned.put(network, path, own)
        control_variate.correct(network, task, config.recalibrate, known)
        names = [f"{path}.weight" for path in codes]
        rest = {name: values for name, values in storage.tensors(network).items() if name not in names}
        integers = [
            own.reshape(network.get_parameter(name).shape) for name, own in zip(names, codes.values(), strict=True)
        ]
        arrays = [own.cpu().numpy().astype(np.int64) for own in integers]
        weights = sparse.part(names, arrays, "weights", steps=[pruned.steps[path] for path in codes])
        yield Compressed(
            task.architecture, task.arguments, (weights, *norm_parts(network, rest)), {"sparsity": sparsity}
        )


class _Pruned:
    """Layers of the reference as matrices (groups, rows, size), and what their inputs are like."""

    def __init__(self, network: nn.Module, task: Task, config: Config) -> None:
        pairs, layers = conv_bn_pairs(network), curvature.layers(network)
        known = curvature.measured(network, task, config.recalibrate, 0)
        self.steps, self._matrices, self._spreads, self._means = {}, {}, {}, {}
        for path, layer in layers.items():
            groups, size = known[path].mean.shape
            self.steps[path] = float(grid.step(layer.weight.cpu().numpy(), BITS))
            self._matrices[path] = layer.weight.double().reshape(groups, -1, size)
            centred = path in pairs or layer.bias is not None
            self._spreads[path] = feedback.spread(known[path], DAMPING, centred=centred)
            self._means[path] = None if path in pairs or layer.bias is None else known[path].mean
        self._magnitudes = torch.cat([matrix.abs().flatten() for matrix in self._matrices.values()]).sort().values

    def at(self, sparsity: float) -> dict[str, Tensor]:
        """Integers of each layer with a share of zeros in all layers together, within TOLERANCE where that is possible."""
        low, high = 0, len(self._magnitudes)  # ranks of the threshold
        while True:
            rank = (low + high) // 2
            codes = {path: self._rounded(path, float(self._magnitudes[rank])) for path in self._matrices}
            zeros = sum(int((own == 0).sum()) for own in codes.values()) / len(self._magnitudes)
            if abs(zeros - sparsity) <= TOLERANCE or high - low <= 1:
                return codes
            low, high = (rank, high) if zeros < sparsity else (low, rank)

    def _rounded(self, path: str, threshold: float) -> Tensor:
        step = self.steps[path]
        return feedback.rounded(self._matrices[path] / step, self._spreads[path], least=threshold / step)

    def put(self, network: nn.Module, path: str, codes: Tensor) -> None:
        """Set the weights of a layer, and shift its bias by the mean change of its outputs if no BatchNorm reads them."""
        module, found = network.get_submodule(path), codes * self.steps[path]
        if (mean := self._means[path]) is not None:
            module.bias += ((self._matrices[path] - found) @ mean[:, :, None]).flatten().to(module.bias)
        module.weight.copy_(found.reshape(module.weight.shape))
