"""One training loop for all methods: data on the device, augmented there in batches, in bf16 where that is fast.

`fit` is memoised: each stage of a run is checkpointed every epoch, and a stage that is already finished is loaded and not
trained again. A method that trains in stages is therefore resumable without additional code.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import seeds
from benchmarks.errors import Diverged, MethodError
from benchmarks.training import modes, processes
from benchmarks.training.augmentation import augment
from benchmarks.training.callback import Callback
from benchmarks.training.layout import channels_last
from benchmarks.training.recipe import Recipe
from methods.interface import Run, Split, Task


def bf16_is_fast(device: torch.device) -> bool:
    """Whether bf16 autocast is faster: on GPUs that support it, and on CPUs with AVX-512 BF16 instructions."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported())


@modes.differentiable()  # a caller may be in inference mode, or within torch.no_grad or torch.autocast
def fit(
    network: nn.Module,
    task: Task,
    run: Run,
    recipe: Recipe,
    stage: str,
    masks: Mapping[str, Tensor] | None = None,
    callback: Callback | None = None,
    groups: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Train `network` in place on `task.train`; leaves it in eval mode on the CPU.

    `stage` names this training within the run: it seeds shuffles and crops and is the key of the checkpoint. `masks` maps
    parameter names to boolean tensors that broadcast to their shapes; where False, the parameter is set to zero after each
    step. `callback` is called at fixed points of the loop.

    `groups` are parameter groups as in torch.optim: "params", and "lr", "weight_decay" or other settings of the optimiser
    that differ from the recipe. All other parameters are trained with the recipe's settings. The schedule multiplies the
    learning rate of every group.

    Raises MethodError if the network was made in inference mode, if the loss stops being finite, if a parameter is in two
    groups or not one of the network's, if a group lacks "params" or has a setting that the optimiser lacks, and if a mask
    has no parameter.
    """
    device = run.device
    if any(tensor.is_inference() for tensor in (*network.parameters(), *network.buffers())):
        msg = (
            f"training {stage!r}: the network was made in torch.inference_mode, so it can't be trained: make it outside"
        )
        raise MethodError(msg)
    network.to(device)
    channels_last(network)
    parameters = dict(network.named_parameters())
    if unknown := sorted((masks or {}).keys() - parameters.keys()):
        msg = f"training {stage!r}: there are masks for {', '.join(unknown)}, but the network has no such parameters"
        raise MethodError(msg)
    kept = {parameters[name]: mask.to(device) for name, mask in (masks or {}).items()}
    optimiser = recipe.optimiser(_groups(network, recipe, stage, groups or ()))
    for setting in (setting for group in groups or () for setting in group):
        if setting not in ("params", "lr", *optimiser.defaults):
            msg = f"training {stage!r}: a group has {setting!r}, which is not a setting of {type(optimiser).__name__}"
            raise MethodError(msg)
    rates = [group["lr"] for group in optimiser.param_groups]
    callback = Callback() if callback is None else callback
    done = 0
    saved = run.restore(stage)
    if saved is not None:
        network.load_state_dict(saved["network"])
        done = saved["epochs"]
        if saved["optimiser"] is not None:
            optimiser.load_state_dict(saved["optimiser"])
        callback.load_state_dict(saved["callback"])
    total = math.ceil(recipe.epochs)
    train = task.train.to(device) if done < total else None
    shared = processes.data_parallel(network)
    training = _Training(shared, task, run, recipe, stage, optimiser, rates, kept, callback)
    for epoch in range(done, total):
        assert train is not None
        with _seeded(seeds.derive("torch", run.seed, stage, epoch, processes.rank()), device):
            callback.before_epoch(epoch, optimiser)
            loss = training.epoch(train, epoch)
        processes.broadcast_buffers(network)
        if not math.isfinite(loss):
            msg = (
                f"training {stage!r} diverged in epoch {epoch + 1}: the loss is {loss}; "
                "train with a lower learning rate, if the method has that setting"
            )
            raise Diverged(msg)
        run.progress(f"{stage}: epoch {epoch + 1}/{total}, loss {loss:.3f}")
        last = epoch + 1 == total
        state = {"network": network.state_dict(), "epochs": epoch + 1, "callback": callback.state_dict()}
        run.checkpoint(stage, state | {"optimiser": None if last else optimiser.state_dict()})
    network.to("cpu").eval()


def _groups(network: nn.Module, recipe: Recipe, stage: str, own: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The parameters in no group, followed by the given groups. BatchNorm is a separate group if it has no weight decay."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    if any("params" not in group for group in own):
        msg = f"training {stage!r}: a group has no 'params'"
        raise MethodError(msg)
    asked: list[dict[str, Any]] = [{**group, "params": _listed(group["params"])} for group in own]
    taken: set[nn.Parameter] = set()
    for parameter in (parameter for group in asked for parameter in group["params"]):
        if parameter not in names:
            msg = f"training {stage!r}: a group has a parameter that is not the network's: use network.parameters()"
            raise MethodError(msg)
        if parameter in taken:
            msg = f"training {stage!r}: parameter {names[parameter]!r} is in two groups: remove it from one"
            raise MethodError(msg)
        taken.add(parameter)
    norms: set[nn.Parameter] = set()
    if not recipe.decay_norm:
        norms = {p for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for p in m.parameters()}
    found: list[dict[str, Any]] = []
    for group in ({"params": [parameter for parameter in names if parameter not in taken]}, *asked):
        free = set() if "weight_decay" in group else norms
        group = {"lr": recipe.lr, **group}
        found.append({**group, "params": [p for p in group["params"] if p not in free]})
        found.append({**group, "params": [p for p in group["params"] if p in free], "weight_decay": 0.0})
    return [group for group in found if group["params"]]


def _listed(parameters: Any) -> list[Any]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """A context in which torch's global generators (used by dropout) are seeded with `seed`, then restored."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True)
class _Training:
    """A training run; `rates` are the base learning rates of the optimiser's groups, `kept` the masks of parameters."""

    network: nn.Module
    task: Task
    run: Run
    recipe: Recipe
    stage: str
    optimiser: torch.optim.Optimizer
    rates: Sequence[float]
    kept: Mapping[nn.Parameter, Tensor]
    callback: Callback

    def epoch(self, train: Split, epoch: int) -> float:
        """One epoch (the last may be partial) over the shuffled training set; returns the mean loss."""
        recipe, optimiser = self.recipe, self.optimiser
        augmentation = self.task.augmentation if recipe.augmentation is None else recipe.augmentation
        device, inputs = train.targets.device, train.inputs
        generator = self.run.generator("fit", self.stage, epoch)
        order = torch.randperm(len(train), generator=generator).to(device)
        steps = processes.steps(len(train), recipe.batch)
        if begin := getattr(inputs, "epoch", None):  # images on disk: decoded ahead in this order
            shares = [batch[processes.share(len(batch))] for batch in order.split(recipe.batch)[:steps]]
            inputs = begin(torch.cat(shares), seeds.derive("views", self.run.seed, self.stage, epoch))
        last = max(1, round(min(1.0, recipe.epochs - epoch) * steps))
        losses = torch.zeros((), device=device)
        self.network.train()
        for step in range(last):
            chosen = order[step * recipe.batch : (step + 1) * recipe.batch]
            own = processes.share(len(chosen))
            batch = augment(inputs[chosen[own]], augmentation, generator, len(chosen), own)
            factor = recipe.factor(epoch + step / steps)
            for group, rate in zip(optimiser.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor
            optimiser.zero_grad(set_to_none=True)
            losses += self._gradients(batch, train.targets[chosen[own]], len(chosen))
            with torch.no_grad():
                self.callback.before_step(optimiser)
            optimiser.step()
            with torch.no_grad():
                for parameter, mask in self.kept.items():
                    parameter.mul_(mask)
                self.callback.after_step()
        return float(processes.total(losses)) / last

    def _gradients(self, inputs: Tensor, targets: Tensor, batch: int) -> Tensor:
        """Compute the gradients of the mean loss over a batch; `inputs` are this process's part. Returns their loss.

        The items go through the network in micro-batches if RATEBENCH_MICRO is set.
        """
        device, pieces = inputs.device, processes.pieces(len(inputs))
        found = torch.zeros((), device=device)
        for number in range(pieces):
            own = slice(number, None, pieces)
            with contextlib.nullcontext() if number + 1 == pieces else processes.without_sync(self.network):
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_fast(device)):
                    prepared = self.task.prepare(inputs[own])
                    outputs = self.network(prepared)
                torch.clear_autocast_cache()  # an autocast around the training would keep these bf16 weights for all steps
                outputs = outputs.float()
                loss = self.task.loss(outputs, targets[own])
                term = self.callback.loss_term(prepared, outputs, targets[own])
                loss = (loss if term is None else loss + term) * (len(outputs) / batch)
                (loss * processes.count()).backward()  # gradients are averaged over the processes
            found += loss.detach()
        return found
