"""The steering: sparsity ratios set the layers' shares, filters are set to zero, and pulses bring some of them back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmarks.errors import MethodError
from benchmarks.structured import Group, Keep, Prunable, filters, highest, shares
from benchmarks.structured.allocation import writers, zero
from methods.interface import Run, Split, Task
from methods.psap.pulse import pulses
from methods.psap.sparsity import scheduled, sparsity_ratios

if TYPE_CHECKING:
    from methods.psap import Config


class Protective:
    """Prunes every `every` steps of `steps`: what `keep` lacks is gone already, and `goal` MACs are left at the end.

    State: the layers' shares r, the prunings for which a filter that came back is still protected, and what is zero.
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
        names = ("step", "shares", "protected", "zeroed", "restored")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def prune(self, last: bool) -> None:
        """Set filters to zero, and bring back those that the loss wants: none at the last pruning, which is final."""
        progress = self.step / self._steps
        start = self._prunable.macs(self._keep)
        goal = start - scheduled(start - self._goal, progress, self._config.schedule, self._config.ramp)
        counts = self.counts(goal)
        old = self._weights()
        self.zeroed = {name: ~mask for name, mask in self._chosen(counts).items()}
        self._zero(self.zeroed)
        for left in self.protected.values():
            left.sub_(1).clamp_(min=0)
        if self._config.theta > 0 and not last:
            found = pulses(
                self._network,
                self._prunable.groups,
                self.zeroed,
                old,
                self._task,
                self._batches(),
                self._config.statistic,
            )
            self._restore(found, old)

    def counts(self, goal: float) -> dict[str, int]:
        """Channels to keep of each group, so that `goal` MACs are left; moves the layers' shares towards the ratios."""
        config, prunable = self._config, self._prunable
        removed = 1 - goal / prunable.macs(prunable.all_kept())
        weights = {group.name: filters(self._network, group) for group in prunable.groups}
        ratios = sparsity_ratios(weights, config.threshold, removed, config.level, config.normalised)
        if not any(ratios.values()):
            msg = f"no weight lies below the {config.threshold} threshold of {config.level}: raise `level`"
            raise MethodError(msg)
        wanted = _lost(prunable, shares(prunable, self._keep, goal, ratios, config.most))
        if any(self.shares.values()):
            rate = config.adaptation
            wanted = {name: (1 - rate) * self.shares[name] + rate * lost for name, lost in wanted.items()}
        found = shares(prunable, self._keep, goal, wanted, config.most)
        self.shares = _lost(prunable, found)
        return found

    def _chosen(self, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """The filters with the largest norms, but those that are protected come first."""
        scores = {}
        for group in self._prunable.groups:
            norms = filters(self._network, group).norm(dim=1).cpu().double()
            scores[group.name] = norms + (self.protected[group.name] > 0) * (1 + norms.max())
        return highest(scores, self._keep, counts)

    def _restore(self, found: Mapping[str, Tensor], old: Mapping[str, Tensor]) -> None:
        """Give back filters whose pulse is at least θ times the median over all that were set to zero."""
        candidates = {name: mask & self._keep[name] for name, mask in self.zeroed.items()}
        every = torch.cat([found[name][mask] for name, mask in candidates.items()])
        if not len(every):
            return
        least = max(self._config.theta * float(every.median()), torch.finfo(torch.float32).tiny)
        for group in self._prunable.groups:
            back = candidates[group.name] & (found[group.name] >= least)
            self._put_back(group, back, old)
            self.zeroed[group.name] = self.zeroed[group.name] & ~back
            self.protected[group.name][back] = self._config.hold
            self.restored += int(back.sum())

    @torch.no_grad()
    def _put_back(self, group: Group, back: Tensor, old: Mapping[str, Tensor]) -> None:
        for member in group.side("out", "depthwise"):
            if member.path in old:
                rows = member.entries[back[member.channels]]
                self._network.get_submodule(member.path).get_parameter("weight")[rows] = old[member.path][rows]

    def _zero(self, removed: Mapping[str, Tensor]) -> None:
        """Set filters to zero, and their momentum: it would move them on."""
        for group in self._prunable.groups:
            zero(self._network, group, removed[group.name])
            for member in group.side("out", "depthwise"):
                modules = writers(self._network, group)
                for parameter in modules[member.path].parameters() if member.path in modules else ():
                    state = self._optimiser.state[parameter] if self._optimiser is not None else {}
                    if state.get("momentum_buffer") is not None:
                        state["momentum_buffer"][member.entries[removed[group.name][member.channels]]] = 0

    def _weights(self) -> dict[str, Tensor]:
        """A copy of all weights that write channels."""
        return {
            path: module.get_parameter("weight").detach().clone()
            for group in self._prunable.groups
            for path, module in writers(self._network, group).items()
        }

    def _batches(self) -> list[Split]:
        config, train = self._config, self._task.train
        draws = self._run.generator("pulse", f"{self._goal:.0f}", self.step)
        order = torch.randperm(len(train), generator=draws)[: config.pulse * config.batch]
        device = next(self._network.parameters()).device
        return [Split(train.images[own].to(device), train.labels[own].to(device)) for own in order.split(config.batch)]


def _lost(prunable: Prunable, counts: Mapping[str, int]) -> dict[str, float]:
    return {group.name: 1 - counts[group.name] / group.size for group in prunable.groups}
