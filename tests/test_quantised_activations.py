"""Layers on uniform grids: their values, what the file holds, clip ranges, counts of bit operations, and qat and ptq."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import test_every_method as kit
import torch
from torch import Tensor, nn

from benchmarks import bitstream, networks, tasks
from benchmarks.bitstream.modules.quantised_layer import QuantisedLayer, unit, value
from benchmarks.errors import MethodError
from benchmarks.evaluation import bops, measure
from methods.baselines import ptq, qat
from methods.families import quantised_activations as layers
from methods.families import storage
from methods.interface import Budget

torch.set_num_threads(1)
FP, EIGHT = 32 * 32, 8 * 8


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_inputs_become_the_nearest_level(bits: int, signed: bool) -> None:
    """By the list of all levels. Wrong code that this finds: 2^b − 2 steps, or a range that begins elsewhere."""
    module = QuantisedLayer(nn.Linear(50, 50, bias=False), 8, bits, signed)
    with torch.no_grad():
        module.layer.weight.copy_(torch.eye(50))
        module.clip.copy_(torch.tensor([1.3]))
    low = -1.3 if signed else 0.0
    levels = torch.linspace(low, 1.3, 2**bits, dtype=torch.float64)
    x = 2 * drawn(20, 50)
    nearest = levels[(x.double()[..., None].clamp(low, 1.3) - levels).abs().argmin(-1)]
    assert torch.allclose(module(x).double(), nearest, atol=1e-6)
    assert len(module(x).unique()) <= 2**bits


def test_no_bits_leave_inputs_as_they_are() -> None:
    module = QuantisedLayer(nn.Linear(4, 3), 8, 0, False)
    assert module.clip is None and torch.equal(module(drawn(2, 4)), module.layer(drawn(2, 4)))


def test_the_gradient_of_rounding_is_one_within_the_range() -> None:
    """To the clip range: D(z) − z within it, and 1 beyond it."""
    x, clip = torch.tensor([-0.5, 0.2, 0.7, 3.0], requires_grad=True), torch.ones(1, requires_grad=True)
    layers.on_grid(unit(x, clip, False), clip, 2, False).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 0]
    rounded = torch.tensor([1 / 3 - 0.2, 2 / 3 - 0.7, 1.0])
    assert clip.grad is not None and torch.allclose(clip.grad, rounded.sum())


def test_normalised_weights_leave_out_what_is_not_kept() -> None:
    """To the bit: an extracted layer has the same weights as before."""
    weight = drawn(12, 8, 3, 3)
    rows, columns = torch.arange(12) % 3 > 0, torch.arange(8) % 4 > 0
    kept = rows.float().view(-1, 1, 1, 1) * columns.float().view(1, -1, 1, 1)
    small = weight[rows][:, columns]
    found = layers.normalised(weight, kept)[rows][:, columns]
    assert torch.equal(found, layers.normalised(small))
    assert torch.allclose(found, (small - small.mean()) / small.std(), atol=1e-6)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_file_holds_the_weights_of_training_to_the_bit(bits: int) -> None:
    network = nn.Sequential(layers.Quantised(nn.Conv2d(3, 8, 3, stride=2, padding=1), bits, bits))
    part, decoded, edits = layers.parts(network)
    layer = network[0]
    assert isinstance(layer, layers.Quantised)
    trained = layers.on_grid(layer.shares(), layer.weight_clip, bits, True)
    assert torch.equal(decoded.get_parameter("0.layer.weight"), trained)
    codes = part.data["codes"][0]
    assert (codes % 2 == 1).all() and abs(codes).max() < 2**bits
    x = drawn(2, 3, 8, 8)
    assert torch.equal(decoded(x), network(x))
    child = edits["0"].children[0]
    assert child.arguments == {
        "in_channels": 3,
        "out_channels": 8,
        "kernel_size": (3, 3),
        "stride": (2, 2),
        "padding": (1, 1),
    }


@pytest.mark.parametrize(("bits", "signed"), [(2, False), (3, True), (8, False)])
def test_clip_ranges_have_the_least_squared_error(bits: int, signed: bool) -> None:
    values = drawn(500, seed=bits) if signed else drawn(500, seed=bits).relu()
    found = layers.clip_range(values, bits, signed)

    def error(clip: Tensor) -> float:
        codes = (unit(values, clip, signed) * (2**bits - 1)).round()
        return float((value(codes, clip, bits, signed) - values).square().mean())

    others = [error(values.abs().max() * share) for share in torch.linspace(0.05, 1, 300)]
    assert error(found) <= min(others) * 1.02
    assert error(found) < error(values.abs().max()) or bits == 8


# Bit operations


def quantised(network: nn.Module, bits: int) -> nn.Module:
    """All layers with these bits, but for the first and the last; the values of weights are zero."""
    paths = list(storage.layers(network))
    seen = dict.fromkeys(paths, layers.Seen(torch.ones(2), False))
    layers.wrap(network, layers.bits_of(paths, bits), seen, normalise=False, start="one")
    for path, module in layers.quantised(network).items():
        module.layer.weight.data.zero_()
        made = QuantisedLayer(module.layer, module.weight_bits, module.input_bits, False)  # type: ignore[arg-type]
        if made.clip is not None:
            made.clip.data.fill_(1.0)
        layers.replace(network, path, made)
    return network


@pytest.mark.parametrize(
    ("name", "arguments", "size", "bits", "dense", "mixed"),
    [  # bit operations in millions: the uncompressed network, and one number of bits for all but the ends
        ("cifar_preact_resnet", {"depth": 20, "classes": 100}, 32, 4, 41798.6, 674.6),
        ("cifar_preact_resnet", {"depth": 20, "classes": 100}, 32, 3, 41798.6, 392.1),
        ("cifar_preact_resnet", {"depth": 56, "classes": 100}, 32, 4, 128771.7, 2033.6),
        ("resnet", {"depth": 18, "classes": 1000}, 224, 4, 1857.6e3, 34.7e3),
        ("resnet", {"depth": 18, "classes": 1000}, 224, 2, 1857.6e3, 14.4e3),
        ("mobilenet_v2", {"classes": 1000}, 224, 6, 308.0e3, 11.2e3),
    ],
)
def test_bit_operations_are_those_of_the_tables(
    name: str, arguments: dict[str, Any], size: int, bits: int, dense: float, mixed: float
) -> None:
    """As the paper's tables print them. Wrong code that this finds: a first layer with inputs of 32 bits."""
    network, example = networks.build(name, arguments), torch.zeros(1, 3, size, size)
    digits = -2 if dense > 2e5 else 1  # billions have one decimal
    assert round(bops.count(network, example) / 1e6, digits) == pytest.approx(dense)
    assert round(bops.count(quantised(network, bits), example) / 1e6, digits) == pytest.approx(mixed)


def test_weights_with_more_values_than_declared_count_with_what_they_need() -> None:
    module = QuantisedLayer(nn.Linear(10, 1, bias=False), 2, 4, False)
    with torch.no_grad():
        module.clip.fill_(1.0)
        module.layer.weight.copy_(torch.arange(10.0)[None] % 4)
    example = torch.ones(1, 10)
    assert bops.count(module, example) == 10 * 2 * 4
    with torch.no_grad():
        module.layer.weight[0, 0] = 7.0
    assert bops.count(module, example) == 10 * 3 * 4


def test_products_outside_of_layers_count_in_full() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 5))
            self.layer = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x @ self.weight)

    example = torch.ones(1, 3)
    assert bops.count(Product(), example) == measure.macs(Product(), example) * FP == (15 + 10) * FP


# The methods


def test_signed_inputs_have_levels_below_zero() -> None:
    task = tasks.load("digits", "digits_cnn")
    network = task.reference()
    network[2] = nn.Identity()  # type: ignore[index]
    seen = layers.seen(network, task, 50, ["3", "7", "12"])
    assert [seen[path].signed for path in ("3", "7", "12")] == [True, False, False]
    assert all(0 < len(found.sample) <= layers.SAMPLE for found in seen.values())


def test_a_sample_sees_all_features_and_the_largest_input() -> None:
    """A linear layer's features lie at one distance. Wrong code that this finds: every n-th value."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 512), nn.Linear(512, 10))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.copy_(torch.arange(512.0))
    task = tasks.load("digits", "digits_cnn")
    found = layers.seen(network, task, 500, ["1", "2"])["2"].sample
    assert len(found.unique()) > 500 and float(found.max()) == 511
    again = layers.seen(network, task, 500, ["1", "2"])["2"].sample
    assert torch.equal(found, again)


def test_a_layer_that_is_not_called_is_named() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    network[1].register_module("unused", nn.Linear(3, 3))
    with pytest.raises(MethodError, match=r"1\.unused is not called"):
        layers.seen(network, tasks.load("digits", "digits_cnn"), 10, ["1", "1.unused"])


def test_what_lies_before_the_first_layer_leaves_its_inputs_at_8_bits() -> None:
    """Padding or flattening. Wrong code that this finds: 32 bits where the input is another tensor."""
    first = QuantisedLayer(nn.Linear(64, 20), 8, 0, False)
    network = nn.Sequential(nn.Flatten(), first, QuantisedLayer(nn.Linear(20, 10), 8, 8, False))
    with torch.no_grad():
        for module in network[1:]:
            module.layer.weight.fill_(0.5)  # type: ignore[union-attr,operator]
        network[2].clip.fill_(1)  # type: ignore[union-attr,operator]
    assert bops.count(network, torch.ones(1, 1, 8, 8)) == 64 * (64 * 20 + 20 * 10)


@pytest.mark.parametrize("clip", [0.0, -1.0])
@pytest.mark.parametrize("signed", [True, False])
def test_a_range_that_no_training_gives_makes_inputs_zero(clip: float, signed: bool) -> None:
    module = QuantisedLayer(nn.Linear(4, 2, bias=False), 8, 4, signed)
    with torch.no_grad():
        module.clip.fill_(clip)  # type: ignore[union-attr]
        assert float(module(torch.tensor([[0.0, 1.0, -1.0, 3.0]])).abs().max()) < 1e-30


def test_a_convolution_at_the_end_is_not_normalised() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 10, 1))
    assert "linear layer at the end" in str(layers.obstacle(network, normalise=True))
    assert layers.obstacle(network, normalise=False) is None


@pytest.mark.parametrize("key", ["qat", "ptq"])
def test_decoded_networks_have_the_bits_of_the_point(key: str) -> None:
    example = kit.task_for(key).prepare(kit.task_for(key).calibration(1).inputs)
    for compressed, data in kit.curve(key):
        network = bitstream.decode(data)
        found = [m for m in network.modules() if isinstance(m, QuantisedLayer)]
        bits = compressed.point["bits"]
        assert [(m.weight_bits, m.input_bits) for m in found] == [(8, 0), (bits, bits), (bits, bits), (8, 8)]
        assert all(len(m.layer.weight.unique()) <= 2**m.weight_bits for m in found)
        assert bops.count(network, example) == compressed.notes["bops"]


def test_without_training_four_bits_lose_little() -> None:
    """Wrong code that this finds: clip ranges of 1, or BatchNorm that is not corrected."""
    task = tasks.load("digits", "digits_resnet")
    (four,) = ptq.compress(task, ptq.Config(bits=(4,)), kit.MemoryRun(kit.POST_TRAINING))
    network, x = bitstream.decode(bitstream.encode(four)), task.prepare(task.validation.inputs)
    with torch.no_grad():
        right = (network(x).argmax(1) == task.validation.targets).float().mean()
    assert right > 0.95


def test_training_keeps_clip_ranges_positive() -> None:
    network = nn.Sequential(layers.Quantised(nn.Linear(4, 4), 4, 4))
    clips = layers.Positive(network)
    with torch.no_grad():
        for clip in network.parameters():
            clip.fill_(-1.0)
        clips.after_step()
    layer = network[0]
    assert isinstance(layer, layers.Quantised) and layer.clip is not None
    assert layer.clip.item() == layer.weight_clip.item() == pytest.approx(layers.LEAST)
    assert layer.layer.bias is not None and layer.layer.bias.detach().max() == -1


def test_networks_that_cannot_be_quantised_are_refused() -> None:
    def reason(*modules: nn.Module, normalise: bool = True) -> str:
        return str(layers.obstacle(nn.Sequential(*modules), normalise))

    conv, norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    assert reason(conv, norm, copy.deepcopy(conv), nn.Linear(4, 4)) == "None"
    assert "needs BatchNorm" in reason(conv, conv.__class__(4, 4, 1), nn.Linear(4, 4))
    assert reason(conv, nn.Conv2d(4, 4, 1), nn.Linear(4, 4), normalise=False) == "None"
    assert "between the first and the last" in reason(conv, norm, nn.Linear(4, 4))
    assert reason(nn.Conv1d(4, 4, 1), norm, conv, nn.Linear(4, 4)).startswith(
        "0 is not a linear layer or a convolution"
    )


def test_the_paper_budget_has_the_schedule_of_the_paper() -> None:
    recipe = qat._recipe(qat.Config(), kit.MemoryRun(Budget("paper", None)), 200)
    assert [recipe.lr * recipe.factor(epoch) for epoch in (0, 79.9, 80, 119.9, 120)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001]
    )
