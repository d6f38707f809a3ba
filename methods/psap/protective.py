"""The callback: sparsity ratios set the layers' shares, filters are set to zero, and pulses restore some of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.errors import MethodError
from benchmarks.training import Callback
from methods.families.structured import Group, Keep, Prunable, filters, highest, shares
from methods.families.structured.allocation import writers, zero
from methods.interface import Run, Split, Task
from methods.psap.config import MOST, RAMP, Config
from methods.psap.pulse import pulses
from methods.psap.sparsity import scheduled, sparsity_ratios


class Protective(Callback):
    """Prunes at every `every`-th of `steps` steps.

    Channels missing in `keep` are removed already; `goal` MACs remain at the end. State: layer shares r, remaining
    prunings of protection per filter, zero filters, last non-zero values of all filters.
    """

    def __init__(
        self,
        network: nn.Module,
        prunable: Prunable,
        keep: Keep,
        goal: float,
        config: Config,
        task: Task,
        run: Run,
        steps: int,
        every: int,
    ) -> None:
        self._network, self._prunable, self._keep, self._goal = network, prunable, keep, goal
        self._config, self._task, self._run, self._steps, self._every = config, task, run, steps, every
        self._optimiser: torch.optim.Optimizer | None = None
        self.step = 0
        self.shares = {group.name: 0.0 for group in prunable.groups}
        self.protected = {group.name: torch.zeros(group.size, dtype=torch.int64) for group in prunable.groups}
        self.zeroed = {group.name: torch.zeros(group.size, dtype=torch.bool) for group in prunable.groups}
        self.old = self._parameters()
        self.restored = 0

    def before_epoch(self, epoch: int, optimiser: torch.optim.Optimizer) -> None:
        self._optimiser = optimiser

    def after_step(self) -> None:
        self.step += 1
        if self.step % self._every == 0:
            self.prune(last=self.step + self._every > self._steps)
        elif self._config.mode == "hard":
            self._zero(self.zeroed)

    def state_dict(self) -> dict[str, Any]:
        names = ("step", "shares", "protected", "zeroed", "old", "restored")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def prune(self, last: bool) -> None:
        """Set filters to zero and restore some of them; the last pruning restores none."""
        config, groups = self._config, self._prunable.groups
        start = self._prunable.macs(self._keep)
        share = 1.0 if last else scheduled(1.0, self.step / self._steps, config.schedule, RAMP)
        counts = self._counts(start - share * (start - self._goal))
        self._back_up()
        self.zeroed = {name: ~mask for name, mask in self._chosen(counts).items()}
        self._zero(self.zeroed)
        for left in self.protected.values():
            left.sub_(1).clamp_(min=0)
        if config.theta > 0 and not last:
            old = {path: tensor for path, tensor in self.old.items() if path.endswith(".weight")}
            device = next(self._network.parameters()).device
            weights = {path.removesuffix(".weight"): tensor.to(device) for path, tensor in old.items()}
            self._restore(
                pulses(self._network, groups, self.zeroed, weights, self._task, self._batches(), config.statistic)
            )

    def _counts(self, goal: float) -> dict[str, int]:
        """The channels of each group to keep, so that `goal` MACs remain; moves the layers' shares towards the ratios."""
        config, prunable = self._config, self._prunable
        removed = 1 - goal / prunable.macs(prunable.all_kept())
        weights = {group.name: filters(self._network, group) for group in prunable.groups}
        ratios = sparsity_ratios(weights, config.threshold, removed, config.level, config.normalised)
        if not any(ratios.values()):
            msg = f"no weight is below the {config.threshold} threshold: raise `level`, or use the threshold 'global_quantile'"
            raise MethodError(msg)
        wanted = _lost(prunable, shares(prunable, self._keep, goal, ratios, MOST))
        if any(self.shares.values()):
            rate = config.adaptation
            wanted = {name: (1 - rate) * self.shares[name] + rate * lost for name, lost in wanted.items()}
        found = shares(prunable, self._keep, goal, wanted, MOST)
        self.shares = _lost(prunable, found)
        return found

    def _chosen(self, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """Protected filters first, then the filters with the largest norms."""
        scores = {}
        for group in self._prunable.groups:
            norms = filters(self._network, group).norm(dim=1).cpu().double()
            scores[group.name] = norms + (self.protected[group.name] > 0) * (1 + norms.max())
        return highest(scores, self._keep, counts)

    def _restore(self, found: Mapping[str, Tensor]) -> None:
        """Restore filters whose pulse is at least θ times the median over all zeroed filters."""
        candidates = {name: mask & self._keep[name] for name, mask in self.zeroed.items()}
        every = torch.cat([found[name][mask] for name, mask in candidates.items()])
        if not len(every):
            return
        least = max(self._config.theta * float(every.median()), torch.finfo(torch.float32).tiny)
        for group in self._prunable.groups:
            back = candidates[group.name] & (found[group.name] >= least)
            self._copy(group, back, self.old, self._parameters(copied=False))
            self.zeroed[group.name] = self.zeroed[group.name] & ~back
            self.protected[group.name][back] = self._config.hold
            self.restored += int(back.sum())

    def _back_up(self) -> None:
        """Store the values of all filters that are not zero now; the stored values of the others are kept."""
        now = self._parameters(copied=False)
        for group in self._prunable.groups:
            self._copy(group, filters(self._network, group).any(1).cpu(), now, self.old)

    def _parameters(self, copied: bool = True) -> dict[str, Tensor]:
        """Weights and biases that write channels, by name; copies on the CPU."""
        found = {
            f"{path}.{name}": parameter.detach()
            for group in self._prunable.groups
            for path, module in writers(self._network, group).items()
            for name, parameter in module.named_parameters()
        }
        return {name: tensor.cpu().clone() for name, tensor in found.items()} if copied else found

    @torch.no_grad()
    def _copy(self, group: Group, chosen: Tensor, source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
        """Copy the chosen channels of a group (mask) from one set of parameters to another."""
        for member in group.side("out", "depthwise"):
            rows = member.entries[chosen[member.channels]]
            for name, tensor in target.items():
                if name.rpartition(".")[0] == member.path:
                    tensor[rows] = source[name][rows].to(tensor.device)

    def _zero(self, removed: Mapping[str, Tensor]) -> None:
        """Set filters and their momentum to zero, in place."""
        for group in self._prunable.groups:
            zero(self._network, group, removed[group.name])
            for member in group.side("out", "depthwise"):
                modules = writers(self._network, group)
                for parameter in modules[member.path].parameters() if member.path in modules else ():
                    state = self._optimiser.state[parameter] if self._optimiser is not None else {}
                    if state.get("momentum_buffer") is not None:
                        state["momentum_buffer"][member.entries[removed[group.name][member.channels]]] = 0

    def _batches(self) -> list[Split]:
        config, train = self._config, self._task.train
        draws = self._run.generator("pulse", f"{self._goal:.0f}", self.step)
        order = torch.randperm(len(train), generator=draws)[: config.pulse * config.batch]
        device = next(self._network.parameters()).device
        return [Split(train.inputs[own].to(device), train.targets[own].to(device)) for own in order.split(config.batch)]


def _lost(prunable: Prunable, counts: Mapping[str, int]) -> dict[str, float]:
    return {group.name: 1 - counts[group.name] / group.size for group in prunable.groups}
