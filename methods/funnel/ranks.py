"""What ranks cost: values and multiply-accumulates of chains, and of dense layers where a chain is not cheaper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

import methods.families.structured.cost as cost


class Ranks:
    """The cost of a network for any ranks of its chains.

    A chain has one or two ranks: `inner` (R₁, of the first convolution) and `outer` (R₂, or the same one). A layer is stored as
    a chain if that has fewer values and fewer multiply-accumulates than the dense layer, and otherwise as the dense layer.
    """

    def __init__(
        self, network: nn.Module, layers: Mapping[str, nn.Conv2d], sizes: Sequence[int], example: Tensor
    ) -> None:
        """`network` is the dense network, `sizes` are the full ranks in order, `example` (1, C, H, W) an input."""
        self.paths = list(layers)
        known = cost.measure(network, [], example)
        dense = {path: known.layers[path].macs({}) for path in layers}
        self.dense = known.macs({})
        self.rest = self.dense - sum(dense.values())
        pixels = _input_places(network, self.paths, example)
        places, links, values, macs = [], 0, [], []
        for path, layer in layers.items():
            window = layer.kernel_size[0] * layer.kernel_size[1]
            written = dense[path] // layer.weight.numel()  # pixels of the output
            tucker = window > 1
            places.append((links, links + tucker))
            links += 1 + tucker
            core = window if tucker else 0
            values.append((layer.in_channels, core, layer.out_channels, layer.weight.numel()))
            read = pixels[path] if tucker else written
            macs.append((layer.in_channels * read, core * written, layer.out_channels * written, dense[path]))
        self._inner, self._outer = torch.tensor(places).T
        self._costs = {
            "values": torch.tensor(values, dtype=torch.float64).T,
            "macs": torch.tensor(macs, dtype=torch.float64).T,
        }
        self.link = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))  # of each gate
        self._member = torch.eye(len(sizes), dtype=torch.float64)

    def to(self, device: torch.device) -> Ranks:
        self._inner, self._outer = self._inner.to(device), self._outer.to(device)
        self.link, self._member = self.link.to(device), self._member.to(device)
        self._costs = {which: costs.to(device) for which, costs in self._costs.items()}
        return self

    def counts(self, alive: Tensor) -> Tensor:
        """The ranks of all gated convolutions from a mask of gates: (gates,) -> (links,)."""
        return torch.zeros_like(self._member[0]).index_add_(0, self.link, alive.to(self._member))

    def chain_costs(self, counts: Tensor, which: Literal["values", "macs"]) -> Tensor:
        """Values or multiply-accumulates of the chain of each layer: (…, links) -> (…, layers)."""
        inner, core, outer, _ = self._costs[which]
        first, second = counts[..., self._inner], counts[..., self._outer]
        return first * inner + first * second * core + second * outer

    def chains(self, counts: Tensor) -> Tensor:
        """Whether each layer is stored as a chain: (…, links) -> (…, layers)."""
        values, macs = (self.chain_costs(counts, which) for which in ("values", "macs"))
        return (values < self._costs["values"][3]) & (macs < self._costs["macs"][3])

    def macs(self, counts: Tensor) -> Tensor:
        """Multiply-accumulates of the whole network for one image: (…, links) -> (…)."""
        chosen = torch.where(self.chains(counts), self.chain_costs(counts, "macs"), self._costs["macs"][3])
        return chosen.sum(-1) + self.rest

    def needed(self, order: Tensor, goals: Sequence[float]) -> Tensor:
        """How many of all gates, closed in this order, it takes to meet each goal in MACs: (goals,), on the device."""
        closed = self._member[self.link[order]].cumsum(0)
        left = self.counts(torch.ones_like(order)) - closed
        macs = self.macs(torch.cat([(left[0] + closed[0])[None], left]))
        return torch.stack([(macs > goal).sum() for goal in goals])


@torch.no_grad()
def _input_places(network: nn.Module, paths: Sequence[str], example: Tensor) -> dict[str, int]:
    """The pixels of the input of each layer, over all of its calls."""
    found = dict.fromkeys(paths, 0)

    def see(path: str, x: Tensor) -> None:
        found[path] += x[0, 0].numel()

    hooks = [
        network.get_submodule(path).register_forward_pre_hook(lambda _m, x, path=path: see(path, x[0]))
        for path in paths
    ]
    network.eval()(example)
    for hook in hooks:
        hook.remove()
    return found
