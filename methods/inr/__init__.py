"""INR: a picture as the quantised weights of a sine network (Strümpler, Postels, Yang, Van Gool, Tombari, ECCV 2022).

The task's reference is the network, fitted with an L1 penalty (`benchmarks/training/fitting.py`). It is quantised: a grid for
each tensor, learned rounding, a few steps of training through the grids. The integers are entropy coded. Of a network that was
fitted from learned initial weights, the differences from these can be coded instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, cast

import torch
from msgspec import Meta
from torch import Tensor, nn

from benchmarks.bitstream.codecs import uniform
from benchmarks.networks.sine import SineNetwork
from benchmarks.seeds import generator
from benchmarks.tasks.kinds import starts
from methods.families.limits import Bits, ShareOrAll, check_order
from methods.inr import differences, finetuning, rounding
from methods.inr.grids import grid
from methods.interface import IMAGE_CODING, Budget, Card, Codec, Compressed, Run, Task

CODECS = cast("dict[str, Codec]", differences.CODECS)
CARD = Card(
    key="inr",
    title="Implicit Neural Representations for Image Compression",
    authors=("Yannick Strümpler", "Janis Postels", "Ren Yang", "Luc Van Gool", "Federico Tombari"),
    venue="ECCV",
    year=2022,
    families=("image coding", "quantisation", "entropy coding"),
    fidelity="reconstruction",
    arxiv="2112.04267",
    code="https://github.com/YannickStruempler/inr_based_compression",
    note="The text of the paper was not available: from the official code, and the curves that are stored in it.",
    kinds=(IMAGE_CODING,),
)
Passes: TypeAlias = Annotated[int, Meta(ge=0, le=10**6)]


@dataclass(frozen=True)
class Config:
    """One point for each of `bits`, the width of the grids.

    Rounding is learned in `iterations` for each layer, then all values are trained for `steps` steps; both see a `share` of the
    pixels, drawn once. With `differences`, those from the learned initial weights are quantised and coded. The defaults are
    those of the official code.
    """

    bits: tuple[Bits, ...] = (8, 7, 6)
    iterations: Passes = 1000
    steps: Passes = 300
    share: ShareOrAll = 1.0
    differences: bool = False

    def __post_init__(self) -> None:
        check_order("bits", self.bits, rising=False)

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(self.bits)


def unsupported(task: Task, config: Config) -> str | None:
    """A picture whose network is no sine network is refused, and differences where no initial weights were learned."""
    if task.architecture != "sine":
        return f"quantises sine networks: {task.network} is none"
    if config.differences and not getattr(task, "start", ""):
        return f"codes differences from learned initial weights: {task.network} was fitted from random ones"
    return None


def compress(task: Task, config: Config, run: Run) -> Iterator[Compressed]:
    """One point for each bit width, from the fitted network."""
    split = task.train
    pixels = split.targets.shape[1]
    order = torch.randperm(pixels, generator=generator("inr", "pixels"))
    chosen = slice(None) if config.share == 1 else order[: max(1, round(config.share * pixels))].sort().values
    inputs = task.prepare(split.inputs)[:, chosen].to(run.device)
    wanted = split.targets[:, chosen].to(run.device) / 127.5 - 1
    start = starts.load(task.start) if config.differences else None  # type: ignore[attr-defined]
    for bits in config.bits:
        stage = f"{bits} bit"
        if (state := run.restore(stage)) is None:
            state = _quantised(task, bits, config, start, inputs, wanted, run)
            run.checkpoint(stage, state)
        codes, steps = {name: c.numpy() for name, c in state["codes"].items()}, state["steps"]
        if start is not None:
            part = differences.part(start, codes, steps)
        else:
            part = uniform.part(list(codes), list(codes.values()), list(steps.values()), "weights")
        yield Compressed(task.architecture, task.arguments, (part,), {"bits": bits})


def _quantised(
    task: Task,
    bits: int,
    config: Config,
    start: Mapping[str, Tensor] | None,
    inputs: Tensor,
    wanted: Tensor,
    run: Run,
) -> dict[str, Any]:
    """The integers of each tensor or of its difference from the start, and the step of its grid, by the tensor's name."""
    network = task.reference().to(run.device)
    assert isinstance(network, SineNetwork)
    fitted = {name: tensor.detach() for name, tensor in network.named_parameters()}
    known = {
        name: torch.zeros_like(tensor) if start is None else start[name].to(run.device)
        for name, tensor in fitted.items()
    }
    coded = {name: tensor - known[name] for name, tensor in fitted.items()}
    grids = {name: grid(tensor, bits) for name, tensor in coded.items()}
    linear = {
        f"layers.{name}": layer for name, layer in network.layers.named_children() if isinstance(layer, nn.Linear)
    }
    pairs = [(grids[f"{path}.weight"], grids[f"{path}.bias"]) for path in linear]
    bases = [(known[f"{path}.weight"], known[f"{path}.bias"]) for path in linear]
    found = rounding.rounded(network.layers, bases, pairs, network.encoding(inputs[0]), config.iterations)
    weights = {f"{path}.weight": grids[f"{path}.weight"] for path in linear}
    coded |= {name: codes * own.step for (name, own), codes in zip(weights.items(), found, strict=True)}
    coded = finetuning.finetuned(network, known, coded, weights, bits, inputs, wanted, config.steps)
    run.progress(f"{bits} bit: quantised")
    final = {name: weights.get(name) or grid(tensor, bits) for name, tensor in coded.items()}
    codes = {name: final[name].codes(tensor).long().cpu() for name, tensor in coded.items()}
    return {"codes": codes, "steps": {name: own.step for name, own in final.items()}}
