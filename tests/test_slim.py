"""One description for all families: what differs from the reference, realised, combined and stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import bitstream, tasks
from benchmarks.bitstream.modules import conv2d, joined_conv2d
from benchmarks.errors import MethodError
from methods.baselines import svd
from methods.families import grid, storage
from methods.families.description import describe
from methods.families.norms import norm_parts
from methods.families.slim import Slim
from methods.families.structured import analyse, filters, highest
from methods.interface import Task
from methods.jsvd.shares import factors, shares, structure


@pytest.fixture(scope="module")
def task() -> Task:
    return tasks.load("digits", "digits_resnet")


@pytest.fixture(scope="module")
def pruned(task: Task) -> tuple[nn.Module, Slim]:
    """The reference with three quarters of the channels within its blocks, and its description."""
    dense, prunable = task.reference(), analyse(task)
    scores = {group.name: filters(dense, group).abs().sum(1) for group in prunable.groups}
    keep = highest(scores, prunable.all_kept(), {group.name: 3 * group.size // 4 for group in prunable.groups})
    network, plan = prunable.narrow(dense, keep)
    return network, plan.slim(dense)


def test_what_is_not_named_is_the_references(task: Task) -> None:
    reference = task.reference()
    changed = Slim(tensors={"linear.bias": torch.arange(10.0)}).realise(task, reference)
    for name, tensor in changed.state_dict().items():
        wanted = torch.arange(10.0) if name == "linear.bias" else reference.state_dict()[name]
        assert torch.equal(tensor, wanted) or name.endswith("num_batches_tracked")
    assert not changed.training and not torch.equal(reference.linear.bias, torch.arange(10.0))


def test_a_layer_can_be_pruned_and_then_factorised(task: Task, pruned: tuple[nn.Module, Slim]) -> None:
    """The pairs of factors take the place of the narrower convolutions, in a file like any other."""
    narrow, first = pruned
    second = svd.decompose(narrow, 0.5)
    assert second.edits.keys() & first.edits.keys(), "some layer is both"
    network = first.then(second).realise(task, task.reference())
    x = task.prepare(task.validation.inputs[:16])
    by_hand = first.realise(task, task.reference())
    for path in second.edits:
        dense = by_hand.get_submodule(path)
        pair = nn.Sequential(*(nn.utils.skip_init(type(m), **_arguments(m)) for m in network.get_submodule(path)))
        for place in (0, 1):
            pair[place].weight = nn.Parameter(second.tensors[f"{path}.{place}.weight"])
        assert dense.in_channels == pair[0].in_channels and dense.out_channels == pair[1].out_channels
        by_hand.set_submodule(path, pair)
    with torch.no_grad():
        torch.testing.assert_close(network(x), by_hand(x))
        assert not torch.allclose(network(x), narrow(x), atol=1e-3)
    slim = first.then(second)
    weights = grid.part(storage.matrices(storage.tensors(network, slim.tied)), 8)
    data = bitstream.encode(describe(task, network, slim, [weights], {"removed": 0.4, "rate": 0.5}))
    decoded = bitstream.decode(data)
    assert {path for path, m in decoded.named_modules() if isinstance(m, nn.Sequential)} >= second.edits.keys()
    with torch.no_grad():
        assert (decoded(x).argmax(1) == network(x).argmax(1)).float().mean() > 0.9


def _arguments(layer: nn.Conv2d) -> dict[str, object]:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding")
    return {name: getattr(layer, name) for name in names} | {"bias": False}


def test_shared_factors_go_with_the_layers_that_share_them(task: Task, pruned: tuple[nn.Module, Slim]) -> None:
    from methods.families.lowrank import groups

    narrow, first = pruned
    found = shares(groups(narrow), "ljsvd", 0.5, 1.0)
    joint = Slim(*structure(found), factors(found, 1))
    assert joint.tied
    both = first.then(joint)
    again = both.then(svd.decompose(narrow, 0.25))
    assert both.tied == joint.tied and not again.tied, "a pair that is replaced shares nothing any more"
    network = both.realise(task, task.reference())
    for path, source in joint.tied.items():
        assert network.get_parameter(path) is network.get_parameter(source)
    assert again.realise(task, task.reference()).get_submodule("layer2.1.conv1")[0].out_channels == 3


def test_a_shared_factor_outlives_the_layer_that_stored_it(task: Task, pruned: tuple[nn.Module, Slim]) -> None:
    """The first layer that still shares it stores it; the others stay as they were."""
    from methods.families.lowrank import groups

    narrow, first = pruned
    found = shares(groups(narrow), "ljsvd", 0.5, 1.0)
    both = first.then(Slim(*structure(found), factors(found, 1)))
    source = "layer2.0.conv2.0.weight"
    members = [path for path, stored in both.tied.items() if stored == source]
    replaced = source.removesuffix(".0.weight")
    assert len(members) == 2
    again = both.then(Slim({replaced: first.edits[replaced]}, {}, _of(first.tensors, replaced)))
    assert members[0] not in again.tied and {again.tied[path] for path in members[1:]} == {members[0]}
    network = again.realise(task, task.reference())
    assert all(network.get_parameter(path) is network.get_parameter(members[0]) for path in members)
    assert torch.equal(network.get_parameter(members[0]), both.tensors[source])


def _of(tensors: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(f"{path}.")}


def test_a_joined_kernel_keeps_its_piece_if_the_layer_that_stored_it_is_replaced(task: Task) -> None:
    """Two convolutions share a piece of which only one has values of its own."""
    window = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1)}
    paths = ("layer2.1.conv1", "layer2.2.conv1")
    pieces = {f"{path}.weights.1": torch.full((12, 16, 3, 3), 2.0) for path in paths}
    joined = Slim(
        {path: joined_conv2d.spec(16, (4, 12), 0, **window) for path in paths},
        {f"{paths[1]}.weights.0": f"{paths[0]}.weights.0"},
        {f"{paths[0]}.weights.0": torch.ones(4, 16, 3, 3), **pieces},
    )
    plain = Slim(
        {paths[0]: conv2d.spec(16, 16, bias=False, **window)}, {}, {f"{paths[0]}.weight": torch.zeros(16, 16, 3, 3)}
    )
    both = joined.then(plain)
    assert not both.tied
    weights = both.realise(task, task.reference()).get_submodule(paths[1]).weights
    assert torch.equal(torch.cat(list(weights)), torch.cat([torch.ones(4, 16, 3, 3), pieces[f"{paths[1]}.weights.1"]]))
    with pytest.raises(MethodError, match=f"^{paths[0]}.weights.0 is shared and replaced, but not among the tensors: "):
        Slim(joined.edits, joined.tied, pieces).then(plain)


def test_indices_of_a_pruned_and_factorised_network_are_exact_in_a_file_of_fp16(task: Task) -> None:
    """Integers above 2048 are not all numbers of fp16; a stage of so many channels is stood in for by what it would gather."""
    dense, prunable = task.reference(), analyse(task, "branches")
    scores = {group.name: filters(dense, group).abs().sum(1) for group in prunable.groups}
    counts = {group.name: group.size if group.kind == "inner" else group.size // 2 for group in prunable.groups}
    _, plan = prunable.narrow(dense, highest(scores, prunable.all_kept(), counts))
    indices = {name: values + 2049 for name, values in plan.indices.items()}
    first = plan.slim(dense)
    first = Slim(first.edits, first.tied, {**first.tensors, **indices})
    slim = first.then(svd.decompose(first.realise(task, dense), 0.25))
    network = slim.realise(task, dense)
    parts = storage.stored_raw(storage.tensors(network, slim.tied), "float16")
    decoded = bitstream.decode(bitstream.encode(describe(task, network, slim, parts, {"rate": 0.25})))
    assert indices
    for name, values in indices.items():
        assert torch.equal(decoded.get_buffer(name), values)


def test_a_tensor_is_stored_raw_once_in_a_type_that_holds_it() -> None:
    half, single = "float16", "float32"
    found = {
        "0.weight": np.ones((2, 3), np.float32),
        "1.weight": np.full((2, 3), 1e5, np.float32),
        "0.bias": np.ones(2, np.float32),
        "1.bias": np.full(2, 1e5, np.float32),
        "places": np.arange(3),
    }
    wanted: dict[Literal["float32", "float16"], list[tuple[str, tuple[str, ...]]]] = {
        "float32": [(single, ("0.weight", "1.weight")), (single, ("0.bias", "1.bias"))],
        "float16": [(half, ("0.weight",)), (single, ("1.weight",)), (half, ("0.bias",)), (single, ("1.bias",))],
    }
    for dtype, expected in wanted.items():
        parts = storage.stored_raw(found, dtype)
        assert [(part.data["dtype"], part.targets) for part in parts] == expected
        for part in parts:
            assert all(np.array_equal(found[t], v) for t, v in zip(part.targets, part.data["values"], strict=True))


def test_a_bias_beyond_fp16_is_stored_in_fp32_beside_batchnorm() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    nn.init.constant_(network[0].bias, 1e6)
    others = {name: values for name, values in storage.tensors(network).items() if values.ndim == 1}
    raws = [part for part in norm_parts(network, others) if part.codec == "raw"]
    assert [part.data["dtype"] for part in raws] == ["float16", "float32"]
    assert raws[1].targets == ("0.bias",) and raws[1].role == "norm_bias"
    assert raws[1].data["values"][0].tolist() == [1e6, 1e6]


@pytest.mark.parametrize("bits", [2, 8, 16])
def test_a_grid_reaches_the_largest_magnitude_and_rounds_to_the_nearest_level(bits: int) -> None:
    values = torch.randn(7, 5, generator=torch.Generator().manual_seed(bits)).numpy()
    part = grid.part({"w": values}, bits)
    (codes,), (step,) = part.data["codes"], part.data["steps"]
    levels = 2 ** (bits - 1) - 1
    assert abs(codes).max() == levels
    assert abs(codes * float(step) - values).max() <= float(step) / 2 * (1 + 1e-6)
    zeros = grid.part({"w": 0 * values}, bits)
    assert not zeros.data["codes"][0].any()
