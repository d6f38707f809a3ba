"""Layers whose weights and inputs are on uniform grids with trained clip ranges: how they are trained, and what a file holds.

With z = clip(x/v, 0, 1) of an input, or z = (clip(w/v, −1, 1) + 1)/2 of a weight, the value is v·D(z) or v·(2·D(z) − 1),
where D rounds to a multiple of 1/(2^b − 1) (Liu et al., Single-path Bit Sharing, IEEE TPAMI 2023, Equations 1 to 6). The
gradient of rounding is taken for 1. Inputs that can be negative have the grid of weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.bitstream.codecs import uniform
from benchmarks.bitstream.modules import conv2d, linear, quantised_layer
from benchmarks.bitstream.modules.quantised_layer import QuantisedLayer, unit, value
from benchmarks.errors import MethodError
from benchmarks.training import Callback
from benchmarks.training.layout import device_of
from methods.families import storage
from methods.families.storage import Layer
from methods.interface import ModuleSpec, Part, Task

ENDS = 8  # bits of the first and the last layer
LEAST = 1e-3  # of a clip range in training
SAMPLE, CHUNK = 2**14, 50  # values that are kept of a layer's inputs; items of a forward pass
CANDIDATES = 128  # clip ranges that are compared
Start: TypeAlias = Literal["one", "calibrated"]


class _Round(torch.autograd.Function):
    """Rounding to integers with gradient 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def on_grid(z: Tensor, clip: Tensor, bits: int, signed: bool) -> Tensor:
    """The value of shares z in [0, 1], rounded to 2^bits levels: v·D(z), or if `signed` v·(2·D(z) − 1)."""
    rounded: Tensor = _Round.apply(z * (2**bits - 1))  # type: ignore[no-untyped-call]
    return value(rounded, clip, bits, signed)


def normalised(weight: Tensor, kept: Tensor | None = None) -> Tensor:
    """The weight minus its mean, divided by its standard deviation; no gradient passes through these two.

    `kept` (broadcast to the weight's shape, 0 or 1) marks the entries that count. The sums are in fp64: they are the same,
    after rounding, as those of the weight without the other entries.
    """
    with torch.no_grad():
        exact = weight.double()
        mask = torch.ones_like(exact) if kept is None else kept.double().expand_as(exact)
        number = mask.sum()
        mean = (exact * mask).sum() / number
        deviation = ((exact - mean).square() * mask).sum().div((number - 1).clamp_min(1)).sqrt()
        mean, deviation = mean.to(weight), deviation.clamp_min(1e-12).to(weight)
    return (weight - mean) / deviation


class Quantised(nn.Module):
    """A layer in training with weights of `weight_bits` and inputs of `input_bits` (0: inputs stay as they are).

    `weight_clip` and `clip` (1,) are the trained clip ranges. Weights of convolutions are normalised first if `normalise`.
    """

    def __init__(
        self, layer: Layer, weight_bits: int, input_bits: int, signed: bool = False, normalise: bool = True
    ) -> None:
        super().__init__()
        self.layer = layer
        self.weight_bits, self.input_bits, self.signed = weight_bits, input_bits, signed
        self.normalise = normalise and not isinstance(layer, nn.Linear)
        self.weight_clip = nn.Parameter(torch.ones(1))
        self.clip = nn.Parameter(torch.ones(1)) if input_bits else None

    def shares(self) -> Tensor:
        weight = normalised(self.layer.weight) if self.normalise else self.layer.weight
        return unit(weight, self.weight_clip, True)

    def forward(self, x: Tensor) -> Tensor:
        if self.clip is not None:
            x = on_grid(unit(x.float(), self.clip, self.signed), self.clip, self.input_bits, self.signed)
        weight = on_grid(self.shares(), self.weight_clip, self.weight_bits, True)
        found: Tensor = torch.func.functional_call(self.layer, {"weight": weight}, (x,))
        return found

    @torch.no_grad()
    def codes(self) -> tuple[np.ndarray[Any, Any], np.float32]:
        """Odd integers from −(2^bits − 1) to 2^bits − 1, and the step that they are multiples of."""
        last = 2**self.weight_bits - 1
        codes = 2 * (self.shares() * last).round() - last
        return codes.to(torch.int64).cpu().numpy(), (self.weight_clip / last).cpu().numpy()[0]


class Positive(Callback):
    """Keeps the clip ranges of a network positive."""

    def __init__(self, network: nn.Module) -> None:
        self._clips = [
            p for name, p in network.named_parameters() if name.rpartition(".")[2] in ("clip", "weight_clip")
        ]

    def after_step(self) -> None:
        for clip in self._clips:
            clip.clamp_(min=LEAST)


def replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


def quantised(network: nn.Module) -> dict[str, Quantised]:
    """The layers in training of a network, by path."""
    return {path: module for path, module in network.named_modules() if isinstance(module, Quantised)}


def parts(network: nn.Module) -> tuple[Part, nn.Module, dict[str, ModuleSpec]]:
    """What a file holds of a network whose layers are all `Quantised`: weights, and the network and modules of the decoder.

    The part has the weights of all layers as integers with one step for each, entropy coded.
    """
    found = quantised(network)
    coded = {path: module.codes() for path, module in found.items()}
    names, codes, steps = [f"{path}.layer.weight" for path in found], *zip(*coded.values(), strict=True)
    decoded = copy.deepcopy(network)
    edits = {}
    for path, module in found.items():
        layer = copy.deepcopy(module.layer)
        rounded = torch.from_numpy(uniform.dequantise(coded[path][0], np.asarray(coded[path][1])))
        layer.weight = nn.Parameter(rounded)
        made = QuantisedLayer(layer, module.weight_bits, module.input_bits, module.signed)  # type: ignore[arg-type]
        if module.clip is not None:
            made.clip = nn.Parameter(module.clip.detach().clone())
        replace(decoded, path, made.eval())
        edits[path] = quantised_layer.spec(spec_of(layer), module.weight_bits, module.input_bits, module.signed)
    return uniform.part(names, codes, steps, "weights"), decoded, edits


def spec_of(layer: Layer) -> ModuleSpec:
    """The layer itself as a module of the decoder, without arguments that are PyTorch's defaults."""
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return linear.spec(layer.in_features, layer.out_features, bias)
    others = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, "bias": True}
    given = {name: bias if name == "bias" else getattr(layer, name) for name in others}
    own: Any = {name: setting for name, setting in given.items() if setting != others[name]}
    return conv2d.spec(layer.in_channels, layer.out_channels, kernel_size=tuple(layer.kernel_size), **own)


def obstacle(network: nn.Module, normalise: bool) -> str | None:
    """Why the layers of a network can't be quantised, in one sentence; None if they can."""
    layers = storage.layers(network)
    for path, layer in layers.items():
        if not isinstance(layer, nn.Conv2d | nn.Linear) or getattr(layer, "padding_mode", "zeros") != "zeros":
            return f"{path} is not a linear layer or a convolution of two dimensions padded with zeros"
    if len(layers) < 3:
        return "needs a layer between the first and the last one, which keep 8 bits"
    if normalise and not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in network.modules()):
        return "needs BatchNorm, because the weights of convolutions are normalised"
    if normalise and not isinstance([*layers.values()][-1], nn.Linear):
        return (
            "needs a linear layer at the end: no BatchNorm follows there that could undo what normalises a convolution"
        )
    return None


@dataclass(frozen=True)
class Seen:
    """A sample (n,) of a layer's inputs, and whether any of its inputs is negative."""

    sample: Tensor
    signed: bool


@torch.no_grad()
def seen(network: nn.Module, task: Task, items: int, paths: Sequence[str]) -> dict[str, Seen]:
    """The inputs of layers, by path, while calibration items pass through the network in eval mode; samples are on the CPU.

    A sample has values at random places of each chunk of items, always the same ones, and the largest magnitude. Raises
    MethodError for a layer that is not called.
    """
    samples: dict[str, list[Tensor]] = {path: [] for path in paths}
    least = dict.fromkeys(paths, 0.0)
    inputs = task.calibration(items).inputs
    each = max(2, SAMPLE * CHUNK // max(len(inputs), CHUNK))

    def note(path: str, x: Tensor) -> None:
        flat = x.detach().flatten().float()
        least[path] = min(least[path], float(flat.min()))
        chosen = torch.randint(
            len(flat), (min(each - 1, len(flat)),), generator=torch.Generator().manual_seed(len(samples[path]))
        )
        samples[path] += [flat[chosen.to(flat.device)].cpu(), flat[flat.abs().argmax()].reshape(1).cpu()]

    hooks = [
        network.get_submodule(path).register_forward_pre_hook(lambda _m, x, path=path: note(path, x[0]))
        for path in paths
    ]
    network.eval()
    for start in range(0, len(inputs), CHUNK):
        network(task.prepare(inputs[start : start + CHUNK].to(device_of(network))))
    for hook in hooks:
        hook.remove()
    if unseen := [path for path, found in samples.items() if not found]:
        msg = f"{unseen[0]} is not called as a module in a forward pass, so that its inputs can't be seen: call or remove it"
        raise MethodError(msg)
    return {path: Seen(torch.cat(found), least[path] < 0) for path, found in samples.items()}


@torch.no_grad()
def clip_range(values: Tensor, bits: int, signed: bool) -> Tensor:
    """The clip range (1,) of least squared error for `values`, among CANDIDATES shares of the largest magnitude."""
    values = values.detach().flatten()
    most = values.abs().max().clamp_min(LEAST)
    candidates = [most * (1 + number) / CANDIDATES for number in range(CANDIDATES)]
    rounded = (on_grid(unit(values, clip, signed), clip, bits, signed) for clip in candidates)
    errors = torch.stack([(found - values).square().mean() for found in rounded])
    return candidates[int(errors.argmin())].reshape(1)


@torch.no_grad()
def calibrate(module: Quantised, inputs: Tensor) -> None:
    """Set a layer's clip ranges, in place, to those of least squared error for its weight and a sample of its inputs."""
    weight = normalised(module.layer.weight) if module.normalise else module.layer.weight
    module.weight_clip.copy_(clip_range(weight, module.weight_bits, True))
    if module.clip is not None:
        module.clip.copy_(clip_range(inputs, module.input_bits, module.signed))


def bits_of(paths: Sequence[str], bits: int) -> dict[str, tuple[int, int]]:
    """(Weight bits, input bits) by path: `bits` but for the last layer, 8 and 8, and the first, 8 and inputs as they are."""
    found = dict.fromkeys(paths, (bits, bits))
    return found | {paths[-1]: (ENDS, ENDS), paths[0]: (ENDS, 0)}


def wrap(
    network: nn.Module, chosen: Mapping[str, tuple[int, int]], known: Mapping[str, Seen], normalise: bool, start: Start
) -> None:
    """Replace layers, in place, by `Quantised` ones with these (weight bits, input bits); `start` is that of clip ranges."""
    for path, (weight_bits, input_bits) in chosen.items():
        layer: Any = network.get_submodule(path)
        module = Quantised(layer, weight_bits, input_bits, known[path].signed, normalise)
        if start == "calibrated":
            calibrate(module, known[path].sample)
        replace(network, path, module)
