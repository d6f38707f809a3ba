"""One training loop for every method: resident uint8 images, augmented in batches on the device, bf16 where it is fast.

`fit` is memoised: each stage of a run is checkpointed every epoch, and a stage that was finished before is loaded and not
trained again. A method that trains in stages is thereby resumable without a line of its own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

import benchmarks.training.processes as processes  # the module alone: what the package offers is no part of a result
from benchmarks import seeds
from benchmarks.errors import MethodError
from methods.interface import Augmentation, Run, Split, Task

ALL = slice(None)


@dataclass(frozen=True)
class Recipe:
    """How to train. `epochs` may be fractional; `milestones` (epochs) and `gamma` belong to the multistep schedule.

    `warmup` holds the learning rates of the first epochs, which are among `epochs` but not counted by the schedule.
    `nesterov` belongs to SGD; `decay_norm` says whether weight decay acts on BatchNorm's scale and shift, too.
    """

    epochs: float
    lr: float
    batch: int = 128
    optimiser: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay_norm: bool = True
    schedule: Literal["cosine", "multistep"] = "cosine"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup: tuple[float, ...] = ()

    def lr_at(self, epoch: float) -> float:
        """The learning rate at a (fractional) epoch; cosine falls to zero at the end."""
        if epoch < len(self.warmup):
            return self.warmup[int(epoch)]
        epoch -= len(self.warmup)
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * epoch / (self.epochs - len(self.warmup))))
        return self.lr * self.gamma ** sum(epoch >= m for m in self.milestones)


class Steering(Protocol):
    """A method's hand in the training: called between steps, and saved and restored with every checkpoint."""

    def before_epoch(self, epoch: int, optimiser: torch.optim.Optimizer) -> None: ...
    def after_step(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def bf16_is_fast(device: torch.device) -> bool:
    """Whether bf16 autocast pays: on GPUs that have it, and on CPUs with AVX-512 BF16 instructions."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported())


def augment(
    images: Tensor, how: Augmentation, generator: torch.Generator, of: int | None = None, own: slice = ALL
) -> Tensor:
    """Random crops after zero padding and random flips of a uint8 batch (B, C, H, W).

    The draws come from a CPU generator, so that CPU and GPU runs see the same crops. Where `images` are the items `own` of
    a batch of `of`, they get the crops that they would get in the whole batch.
    """
    batch, (_, height, width) = of or len(images), images.shape[1:]
    if how.padding:
        reach = 2 * how.padding + 1
        top, left = torch.randint(reach, (2, batch), generator=generator)[:, own].to(images.device)
        padded = nn.functional.pad(images, (how.padding,) * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        images = windows[torch.arange(len(images), device=images.device), :, top, left]
    if how.flip:
        flips = torch.rand(batch, generator=generator)[own].to(images.device) < 0.5
        images = torch.where(flips.view(-1, 1, 1, 1), images.flip(3), images)
    return images


def fit(
    network: nn.Module,
    task: Task,
    run: Run,
    recipe: Recipe,
    stage: str,
    masks: Mapping[str, Tensor] | None = None,
    steering: Steering | None = None,
) -> None:
    """Train `network` in place on `task.train`; leaves it in eval mode on the CPU.

    `stage` names this training within the run: it seeds shuffles and crops and keys the checkpoint. `masks` maps
    parameter names to boolean tensors of their shapes; where False, the parameter is and stays exactly zero.
    `steering` may change the network in place as training goes on.
    Raises MethodError if the loss stops being finite.
    """
    device = run.device
    network.to(device, memory_format=torch.channels_last)
    parameters = dict(network.named_parameters())
    kept = {parameters[name]: mask.to(device) for name, mask in (masks or {}).items()}
    optimiser = _optimiser(network, recipe)
    done = 0
    saved = run.restore(stage)
    if saved is not None:
        network.load_state_dict(saved["network"])
        done = saved["epochs"]
        if saved["optimiser"] is not None:
            optimiser.load_state_dict(saved["optimiser"])
        if steering is not None:
            steering.load_state_dict(saved["steering"])
    total = math.ceil(recipe.epochs)
    train = task.train.to(device) if done < total else None
    shared = processes.joined(network)
    for epoch in range(done, total):
        assert train is not None
        if steering is not None:
            steering.before_epoch(epoch, optimiser)
        with _seeded(seeds.derive("torch", run.seed, stage, epoch, processes.rank()), device):
            loss = _epoch(shared, train, task, run, recipe, stage, epoch, optimiser, kept, steering)
        processes.broadcast_buffers(network)
        if not math.isfinite(loss):
            msg = f"training {stage!r} diverged in epoch {epoch + 1}: the loss is {loss}; lower the learning rate"
            raise MethodError(msg)
        run.progress(f"{stage}: epoch {epoch + 1}/{total}, loss {loss:.3f}")
        last = epoch + 1 == total
        state = {"network": network.state_dict(), "epochs": epoch + 1}
        if steering is not None:
            state["steering"] = steering.state_dict()
        run.checkpoint(stage, state | {"optimiser": None if last else optimiser.state_dict()})
    network.to("cpu").eval()


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's own generators, which dropout draws from, at `seed`; afterwards they are where they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _epoch(
    network: nn.Module,
    train: Split,
    task: Task,
    run: Run,
    recipe: Recipe,
    stage: str,
    epoch: int,
    optimiser: torch.optim.Optimizer,
    kept: Mapping[nn.Parameter, Tensor],
    steering: Steering | None,
) -> float:
    """One pass (the last may be a part of one) over the shuffled training set; returns the mean loss."""
    device = train.inputs.device
    generator = run.generator("fit", stage, epoch)
    order = torch.randperm(len(train), generator=generator).to(device)
    steps = processes.steps(len(train), recipe.batch)
    pictures = train.inputs
    if begin := getattr(pictures, "epoch", None):  # images on disk: decoded in this order, and ahead of their turn
        shares = [batch[processes.share(len(batch))] for batch in order.split(recipe.batch)[:steps]]
        pictures = begin(torch.cat(shares), seeds.derive("views", run.seed, stage, epoch))
    last = max(1, round(min(1.0, recipe.epochs - epoch) * steps))
    losses = torch.zeros((), device=device)
    network.train()
    for step in range(last):
        chosen = order[step * recipe.batch : (step + 1) * recipe.batch]
        own = processes.share(len(chosen))
        images = augment(pictures[chosen[own]], task.augmentation, generator, len(chosen), own)
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr_at(epoch + step / steps)
        optimiser.zero_grad(set_to_none=True)
        loss = _gradients(network, images, train.targets[chosen[own]], len(chosen), task)
        optimiser.step()
        with torch.no_grad():
            for parameter, mask in kept.items():
                parameter.mul_(mask)
            if steering is not None:
                steering.after_step()
        losses += loss
    return float(processes.total(losses)) / last


def _gradients(network: nn.Module, images: Tensor, labels: Tensor, batch: int, task: Task) -> Tensor:
    """Leave the gradients of the mean loss over a batch, of which `images` are this process's; returns their part of it.

    They go through the network in as many pieces as RATEBENCH_MICRO asks for.
    """
    device, pieces = images.device, processes.pieces(len(images))
    found = torch.zeros((), device=device)
    for number in range(pieces):
        own = slice(number, None, pieces)
        with contextlib.nullcontext() if number + 1 == pieces else processes.alone(network):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_fast(device)):
                outputs = network(task.prepare(images[own]))
            loss = task.loss(outputs.float(), labels[own]) * (len(outputs) / batch)
            (loss * processes.count()).backward()  # processes take the mean of their gradients
        found += loss.detach()
    return found


def _optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [{"params": list(network.parameters())}]
    if not recipe.decay_norm:
        norms = {p for m in network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
        groups = [
            {"params": [p for p in network.parameters() if p not in norms]},
            {"params": [p for p in network.parameters() if p in norms], "weight_decay": 0.0},
        ]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            groups,
            recipe.lr,
            recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )
    return torch.optim.AdamW(groups, recipe.lr, weight_decay=recipe.weight_decay)
