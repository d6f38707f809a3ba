"""Jointly decomposed networks: what they compute and share, their sizes, and every input that can't be decomposed."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import test_every_method
import torch
from test_jsvd_schemes import random
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import bitstream, networks, tasks
from benchmarks.bitstream import blueprint
from benchmarks.errors import BitstreamError, MethodError
from benchmarks.tasks.kinds.classification import Classification
from benchmarks.training import Multistep
from methods import jsvd
from methods.baselines import svd, tucker
from methods.families.lowrank import groups
from methods.families.lowrank.curve import LEARNING_RATE, _recipe, initialise
from methods.families.lowrank.unfolding import truncated_svd, unfold
from methods.families.slim import Slim
from methods.interface import Budget
from methods.jsvd import schemes
from methods.jsvd.shares import Share, factors, shares, structure

SCHEMES = ("ljsvd", "rjsvd1", "rjsvd2", "bijsvd")
NAN, INFINITE = float("nan"), float("inf")
every_scheme = pytest.mark.parametrize("scheme", SCHEMES)


def stage(blocks: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = networks.build("digits_resnet", {"blocks": blocks}).eval()
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
        return network


def task_of(network: nn.Module, blocks: int = 3) -> Classification:
    digits = tasks.load("digits", "digits_resnet")
    assert isinstance(digits, Classification)
    return replace(digits, arguments={"blocks": blocks}, load_state=network.state_dict)


def built(network: nn.Module, found: list[Share], sweeps: int = 30) -> nn.Module:
    return Slim(*structure(found), factors(found, sweeps)).realise(task_of(network), network)


def full_rank(share: Share) -> Share:
    """A right rank (or left, as the share has) that loses nothing."""
    layer = next(iter(share.layers.values()))
    rows, columns = unfold(layer.weight).shape
    if share.right and share.left:
        return replace(share, right=min(rows, columns) - 1, left=1)
    most = min(rows, columns) if len(share.layers) == 1 else (columns if share.right else rows)
    return replace(share, right=most if share.right else 0, left=most if share.left else 0)


@every_scheme
def test_at_full_rank_the_network_computes_the_same(scheme: Any) -> None:
    network = stage()
    found = [full_rank(share) for share in shares(groups(network), scheme, 0.5, 0.5)]
    x = random(4, 1, 8, 8).float()
    with torch.no_grad():
        wanted, made = network(x), built(network, found)(x)
    close = 0.2 if scheme == "bijsvd" else 1e-4  # one rank of it is shared by all, so only the others lose nothing
    torch.testing.assert_close(made, wanted, rtol=0, atol=close)


@every_scheme
def test_what_is_not_decomposed_stays_as_it_is(scheme: Any) -> None:
    network = stage()
    found = shares(groups(network), scheme, 0.5, 0.5)
    made, dense = blueprint.state(built(network, found)), blueprint.state(network)
    replaced = {f"{path}.weight" for share in found for path in share.layers}
    assert len(replaced) == 12 and replaced < dense.keys()
    for name in dense.keys() - replaced:
        assert torch.equal(made[name], dense[name]), name


@every_scheme
def test_a_shared_factor_is_one_tensor_everywhere(scheme: Any) -> None:
    network = stage()
    found = shares(groups(network), scheme, 0.5, 0.5)
    made = built(network, found)
    _, tied = structure(found)
    assert tied
    loaded = copy.deepcopy(made)
    loaded.load_state_dict(made.state_dict())
    for twin in (made, copy.deepcopy(made), loaded, copy.deepcopy(made).to(torch.device("cpu"), torch.float64)):
        for path, source in tied.items():
            assert twin.get_parameter(path) is twin.get_parameter(source)
    total = sum(p.numel() for p in made.parameters())
    assert total == sum(p.numel() for n, p in made.named_parameters(remove_duplicate=False) if n not in tied)
    made.requires_grad_(True)
    made(random(2, 1, 8, 8).float()).sum().backward()
    private = copy.deepcopy(made)
    for path in tied:  # the same network with a tensor of its own for each layer
        module, name = path.rsplit(".", 1)
        setattr(private.get_submodule(module), name, nn.Parameter(made.get_parameter(path).detach().clone()))
    private.zero_grad()
    private(random(2, 1, 8, 8).float()).sum().backward()
    for source in set(tied.values()):
        users = [source, *(path for path, other in tied.items() if other == source)]
        summed = sum(private.get_parameter(path).grad for path in users)
        torch.testing.assert_close(made.get_parameter(source).grad, summed, rtol=1e-4, atol=1e-6)


def test_one_joined_pair_computes_what_two_branches_would() -> None:
    network = stage()
    (share, *_) = (s for s in shares(groups(network), "bijsvd", 0.5, 0.3) if s.left)
    made = built(network, [share])
    for path in share.layers:
        joined, layer = made.get_submodule(path), share.layers[path]
        (u, left), (right, v) = joined[0].weights, joined[1].weights
        first, second = joined[0], joined[1]
        x = random(2, layer.in_channels, 6, 6).float()

        def branch(a: Tensor, b: Tensor, x: Tensor = x, first: Any = first, second: Any = second) -> Tensor:
            return F.conv2d(F.conv2d(x, a, None, first.stride, first.padding), b, None, second.stride, second.padding)

        torch.testing.assert_close(joined(x), branch(u, right) + branch(left, v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("depth", "stem", "side"), [(18, "cifar", 32), (50, "cifar", 32), (18, "imagenet", 64)])
def test_networks_of_torchvision_are_decomposed(depth: int, stem: str, side: int) -> None:
    """A factorised network with its own weights put back as products computes what the dense one would with them."""
    arguments = {"depth": depth, "classes": 7, "stem": stem}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = networks.build("resnet", arguments).eval()
    found = shares(groups(network), "rjsvd1", 0.04, 0.5)
    task = replace(tasks.load("digits", "digits_resnet"), architecture="resnet", arguments=arguments)  # type: ignore[type-var]
    thin = Slim(*structure(found), factors(found, 1)).realise(task, network)
    for share in found:
        for path in share.layers:
            first, second = thin.get_submodule(path)
            product = torch.einsum("rikx,orxw->oikw", first.weight, second.weight)
            network.get_submodule(path).weight.data.copy_(product)
    x = random(2, 3, side, side).float()
    with torch.no_grad():
        torch.testing.assert_close(thin(x), network(x), rtol=1e-3, atol=1e-4)


def test_the_odd_first_layer_joins_only_where_heights_may_differ() -> None:
    grouped = {g.name: g for g in groups(stage())}
    assert list(grouped) == ["layer2 conv1", "layer2 conv2", "layer3 conv1", "layer3 conv2"]
    assert grouped["layer2 conv1"].all() == ("layer2.0.conv1", "layer2.1.conv1", "layer2.2.conv1")
    assert [len(g.members) for g in grouped.values()] == [2, 3, 2, 3]
    assert grouped["layer2 conv1"].odd == "layer2.0.conv1" and grouped["layer2 conv2"].odd is None
    for scheme in SCHEMES:
        found = {s.name: list(s.layers) for s in shares(list(grouped.values()), scheme, 0.5, 0.5)}  # type: ignore[arg-type]
        assert ("layer2.0.conv1" in found["layer2 conv1"]) is (scheme == "rjsvd1")
        assert ("layer2.0.conv1" in found) is (scheme != "rjsvd1")
    with pytest.raises(MethodError, match="unequal shapes"):
        schemes.left_shared([random(6, 4), random(12, 4)], 2, "layer2 conv1")
    with pytest.raises(MethodError, match="unequal shapes"):
        schemes.right_shared([random(6, 4), random(6, 8)], 2, "layer2 conv1")


def test_a_group_that_is_left_with_one_layer_is_decomposed_alone() -> None:
    found = shares(groups(stage(blocks=2)), "ljsvd", 0.5, 0.5)
    assert {s.name for s in found if len(s.layers) == 1} == {f"layer{n}.{b}.conv1" for n in (2, 3) for b in (0, 1)}
    assert {s.name for s in found if len(s.layers) == 2} == {"layer2 conv2", "layer3 conv2"}


def test_p_of_zero_and_one_are_the_one_sided_schemes() -> None:
    network = stage()

    def made(scheme: Any, p: float) -> dict[str, Tensor]:
        return factors(shares(groups(network), scheme, 0.4, p), 5)

    for p, scheme in ((0.0, "rjsvd2"), (1.0, "ljsvd")):
        both, one = made("bijsvd", p), made(scheme, 0.5)
        assert both.keys() == one.keys() and all(torch.equal(both[name], one[name]) for name in one)


def run_of(method: Any, config: Any, budget: Budget | None = None, network: nn.Module | None = None) -> list[Any]:
    task = tasks.load("digits", "digits_resnet") if network is None else task_of(network)
    run = test_every_method.MemoryRun(budget or Budget("post-training", 0.0))
    return list(method.compress(task, config, run))


@pytest.mark.parametrize("method", [jsvd, svd, tucker])
@pytest.mark.parametrize("storage", ["float32", "float16", "uniform"])
def test_a_ratio_in_bytes_is_met_from_below(method: Any, storage: Any) -> None:
    reference = 4 * sum(t.numel() for t in blueprint.state(stage()).values())
    for point in run_of(method, method.Config(ratios=(4.0, 6.5), storage=storage)):
        ratio = reference / len(bitstream.encode(point))
        assert point.point["target"] <= ratio <= 1.25 * point.point["target"]  # whole ranks of a small network
        assert point.point.keys() == {"target", "rate", "cf"} and point.point["rate"] > 0


@pytest.mark.parametrize("method", [jsvd, svd, tucker])
def test_a_ratio_out_of_reach_is_a_sentence(method: Any) -> None:
    with pytest.raises(MethodError, match=r"a ratio of 500\.0 can't be reached"):
        run_of(method, method.Config(ratios=(500.0,)))


@pytest.mark.parametrize("method", [jsvd, svd, tucker])
def test_the_label_cf_counts_weights_without_batchnorm(method: Any) -> None:
    """Dense: the stem, two convolutions of 8 channels, six of 16 and of 32 each, and the classifier."""
    dense = 9 * (8 + 2 * 8 * 8 + 8 * 16 + 5 * 16 * 16 + 16 * 32 + 5 * 32 * 32) + 32 * 10 + 10
    for point in run_of(method, method.Config()):
        stored: dict[int, int] = {}  # values by address: a shared factor counts once
        for module in bitstream.decode(bitstream.encode(point)).modules():
            if not isinstance(module, nn.BatchNorm2d):
                stored |= {p.data_ptr(): p.numel() for p in module.parameters(recurse=False)}
        assert point.point["cf"] == pytest.approx(dense / sum(stored.values()), abs=5e-4)


def test_joint_and_separate_factors_have_nearly_the_same_size() -> None:
    separate = [p.point["cf"] for p in run_of(svd, svd.Config())]
    for scheme in SCHEMES:
        joint = [p.point["cf"] for p in run_of(jsvd, jsvd.Config(scheme=scheme, sweeps=2))]  # type: ignore[arg-type]
        assert joint == pytest.approx(separate, rel=0.12)  # whole ranks of 16 and 32 channels


def test_training_from_scratch_starts_from_random_factors() -> None:
    network = stage()
    made = built(network, shares(groups(network), "ljsvd", 0.5, 0.5))
    initialise(made, torch.Generator().manual_seed(1))
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and not module.running_mean.any()
        elif isinstance(module, nn.Conv2d):
            assert 0 < module.weight.abs().max() <= 0.02
    with pytest.raises(MethodError, match="start 'scratch' needs a budget with training"):
        run_of(jsvd, jsvd.Config(start="scratch"))
    short = Budget("short", 0.5)
    pretrained, scratch = (
        bitstream.decode(bitstream.encode(run_of(jsvd, jsvd.Config(rates=(0.5,), start=s), short)[0]))
        for s in ("pretrained", "scratch")
    )
    assert not torch.equal(pretrained.conv1.weight, scratch.conv1.weight)


def test_a_fine_tuned_network_still_shares_its_factors() -> None:
    (point,) = run_of(jsvd, jsvd.Config(rates=(0.5,)), Budget("short", 0.5))
    decoded = bitstream.decode(bitstream.encode(point))
    assert point.tied
    for path, source in point.tied.items():
        assert decoded.get_parameter(path) is decoded.get_parameter(source)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"p": 1.5}, "<= 1.0 - at `$.p`"),
        ({"p": -0.1}, ">= 0.0 - at `$.p`"),
        ({"p": NAN}, "at `$.p`"),
        ({"sweeps": 0}, ">= 1 - at `$.sweeps`"),
        ({"scheme": "svd"}, "Invalid enum value 'svd' - at `$.scheme`"),
        ({"rates": ()}, "rates has to fall, from the largest file to the smallest, with at least one value"),
        ({"paper_rates": ()}, "paper_rates has to fall, from the largest file to the smallest"),
        ({"rates": (0.5, 0.0)}, "> 0.0 - at `$.rates[1]`"),
        ({"rates": (0.5, NAN)}, "at `$.rates[1]`"),
        ({"paper_rates": (INFINITE, 0.5)}, "at `$.paper_rates[0]`"),
        ({"rates": (0.1, 0.5)}, "rates has to fall"),
        ({"rates": (0.5, 0.5)}, "rates has to fall"),
        ({"paper_rates": (0.04, 0.08)}, "paper_rates has to fall"),
        ({"ratios": (8.0, 4.0)}, "ratios has to rise"),
        ({"ratios": (0.5,)}, "> 1.0 - at `$.ratios[0]`"),
        ({"ratios": (NAN,)}, "at `$.ratios[0]`"),
        ({"ratios": (2.0, INFINITE)}, "at `$.ratios[1]`"),
        ({"bits": 1}, ">= 2 - at `$.bits`"),
        ({"bits": 17}, "<= 16 - at `$.bits`"),
        ({"storage": "int8"}, "Invalid enum value 'int8' - at `$.storage`"),
    ],
)
def test_settings_that_can_not_be_followed_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=re.escape(complaint)):
        msgspec.convert(changes, jsvd.Config)


@pytest.mark.parametrize("method", [svd, tucker])
@pytest.mark.parametrize("changes", [{"rates": (0.1, 0.5)}, {"ratios": (1.0,)}, {"bits": 1}, {"storage": "int8"}])
def test_the_other_low_rank_methods_refuse_the_same(method: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match=next(iter(changes))):
        msgspec.convert(changes, method.Config)


def test_a_network_without_repeated_blocks_is_refused() -> None:
    for method in (jsvd, svd, tucker):
        reason = method.unsupported(tasks.load("digits", "digits_cnn"), method.Config())
        assert reason == "needs the repeated blocks of a ResNet (layer2.0.conv1 …), which digits_cnn does not have"


def decompositions() -> dict[str, Callable[[nn.Module], object]]:
    joint = {s: lambda n, s=s: factors(shares(groups(n), s, 0.5, 0.5), 3) for s in SCHEMES}
    return {**joint, "svd": lambda n: svd.decompose(n, 0.5), "tucker": lambda n: tucker.decompose(n, 0.5)}


@pytest.mark.parametrize(("value", "complaint"), [(0.0, "are all zero"), (float("nan"), "have NaN or infinite values")])
@pytest.mark.parametrize("name", decompositions())
def test_weights_that_can_not_be_decomposed_are_named(name: str, value: float, complaint: str) -> None:
    network = stage()
    for block in network.layer3:  # type: ignore[union-attr]
        nn.init.constant_(block.conv2.weight, value)  # type: ignore[union-attr,arg-type]
    with pytest.raises(MethodError, match=f"the weights of layer3.* {complaint}: they can't be decomposed"):
        decompositions()[name](network)


@pytest.mark.parametrize("method", [jsvd, svd, tucker])
def test_a_ratio_asked_of_such_weights_blames_the_weights(method: Any) -> None:
    network = stage()
    for block in network.layer3:  # type: ignore[union-attr]
        nn.init.zeros_(block.conv2.weight)  # type: ignore[union-attr,arg-type]
    with pytest.raises(MethodError, match=r"the weights of layer3.* are all zero"):
        run_of(method, method.Config(ratios=(4.0,)), network=network)


def test_a_rank_above_the_matrix_rank_is_refused() -> None:
    low = random(20, 3) @ random(3, 12, seed=1)
    with pytest.raises(MethodError, match="rank 5 is above the rank 3 of the weights of layer2 conv1: lower the rate"):
        schemes.right_shared([low, low], 5, "layer2 conv1")
    with pytest.raises(MethodError, match=r"rank 13 is impossible for w: its matrix \(20, 12\) has at most 12"):
        truncated_svd(random(20, 12), 13, "w")
    with pytest.raises(MethodError, match=r"ranks 9 \+ 4 are impossible for w"):
        schemes.both_shared([random(20, 12), random(20, 12, seed=1)], 9, 4, 3, "w")
    with pytest.raises(
        MethodError, match=r"rank 25 is impossible for layer2\.0\.conv1: its matrix \(24, 48\) has at most 24"
    ):
        run_of(jsvd, jsvd.Config(rates=(1.6,)))


def test_unequal_members_of_a_group_are_named() -> None:
    network = stage()
    network.layer3[1].conv2 = nn.Conv2d(32, 24, 3, padding=1, bias=False)  # type: ignore[union-attr,assignment]
    with pytest.raises(MethodError, match=r"layer3 conv2 have unequal shapes .*layer3\.1\.conv2 \(24, 32, 3, 3\)"):
        groups(network)


def test_grouped_convolutions_are_refused() -> None:
    network = stage()
    network.layer3[1].conv2 = nn.Conv2d(32, 32, 3, padding=1, groups=2, bias=False)  # type: ignore[union-attr,assignment]
    with pytest.raises(MethodError, match=r"unequal shapes|layer3\.1\.conv2 is grouped"):
        groups(network)


def test_a_file_without_its_shared_factor_is_refused() -> None:
    (point,) = run_of(jsvd, jsvd.Config(rates=(0.5,)))
    source = next(iter(point.tied.values()))
    (part,) = (p for p in point.parts if source in p.targets)
    kept = [i for i, target in enumerate(part.targets) if target != source]
    values = [part.data["values"][i] for i in kept]
    smaller = replace(part, targets=tuple(part.targets[i] for i in kept), data={**part.data, "values": values})
    with pytest.raises(BitstreamError, match=f"tensors not filled by any part: {source}"):
        bitstream.encode(replace(point, parts=(smaller, *(p for p in point.parts if p is not part))))


def test_the_paper_schedule_is_that_of_the_settings() -> None:
    paper = Budget("paper", None)
    config = jsvd.Config(epochs=20, milestones=(5, 15), warmup=(0.01, 0.05))
    assert config.operating_points(paper) == [22] * len(config.paper_rates)
    recipe = _recipe(config, paper, 22)
    warmup = (0.01 / LEARNING_RATE, 0.05 / LEARNING_RATE)
    assert recipe.epochs == 22 and recipe.schedule == Multistep((5, 15), warmup=warmup)
    short = Budget("short", 0.5)
    assert config.operating_points(short) == [0.5] * len(config.rates)
    assert _recipe(config, short, 0.5).schedule != recipe.schedule
