"""A network whose weights are computed from fewer values, which are trained in their place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Generated(nn.Module):
    """The network with the weights that `sources` return: modules without inputs, by the path of the weight.

    Weights are computed once per forward pass. The network is not copied: its other parameters are trained in place, and the
    weights that it has at these paths are neither used nor trained.
    """

    def __init__(self, network: nn.Module, sources: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.network = network
        self.sources = nn.ModuleList(sources.values())
        self._paths = list(sources)
        for path in sources:
            network.get_parameter(path).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(self.network, self.weights(), (x,))
        return output

    def weights(self) -> dict[str, Tensor]:
        """The computed weights by path, differentiable in the parameters of the sources."""
        return {path: source() for path, source in zip(self._paths, self.sources, strict=True)}
