"""Hierarchical pruning: planted singularities are seen, exactly redundant filters go for free, and floors hold."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import test_every_method
import torch
from torch import Tensor, nn

from benchmarks import bitstream, tasks
from benchmarks.errors import MethodError
from benchmarks.tasks.kinds.classification import Classification
from methods import hierarchical
from methods.families.structured import Group, analyse, channels
from methods.hierarchical import gradients, pruning
from methods.interface import Budget

torch.set_num_threads(1)
EXACT = 1e-8  # of the largest singular value: what fp64 can't tell from zero
RUN = test_every_method.MemoryRun(Budget("post-training", 0.0))


def digits() -> Classification:
    task = tasks.load("digits", "digits_cnn")
    assert isinstance(task, Classification)
    return task


def net(width: int = 16, norm: bool = True, seed: int = 0) -> nn.Sequential:
    """A convolution that is read by another one, in fp64; its BatchNorm does something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        between: list[nn.Module] = [nn.BatchNorm2d(width, eps=0.0)] if norm else []
        tail = [nn.Conv2d(width, 12, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10)]
        network = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), *between, nn.ReLU(), *tail)
        if norm:
            network[1].weight.data.uniform_(0.5, 1.5)
            network[1].bias.data.uniform_(-0.2, 0.4)  # most outputs alive behind the ReLU
            network[1].running_mean.uniform_(-0.1, 0.1)
            network[1].running_var.uniform_(0.02, 0.1)
    return network.double().eval()


def reader(network: nn.Sequential) -> nn.Conv2d:
    layer = network[3] if isinstance(network[1], nn.BatchNorm2d) else network[2]
    assert isinstance(layer, nn.Conv2d)
    return layer


def groups_of(network: nn.Sequential) -> list[Group]:
    found = channels.find(network, torch.zeros(1, 1, 8, 8, dtype=next(network.parameters()).dtype))
    return [group for group in found if group.name == "0"]


def gram(network: nn.Sequential, batches: int = 48, size: int = 1, targets: Any = "labels") -> Tensor:
    return gradients.grams(network, groups_of(network), digits(), RUN, batches, size, targets)["0"]


@torch.no_grad()
def scale(network: nn.Sequential, channel: int, factor: float) -> None:
    """Multiply the feature map of a channel, whatever follows the convolution."""
    network[0].weight[channel] *= factor  # type: ignore[operator,index]
    if isinstance(norm := network[1], nn.BatchNorm2d):
        norm.running_mean[channel] *= factor  # type: ignore[index]
        norm.running_var[channel] *= factor**2  # type: ignore[index]
        norm.weight[channel] *= factor
        norm.bias[channel] *= factor


@torch.no_grad()
def overlap(network: nn.Sequential, channel: int, of: int, factor: float = 1.0) -> None:
    for tensor in network[0].state_dict().values():
        tensor[channel] = tensor[of]
    if isinstance(network[1], nn.BatchNorm2d):
        for tensor in (network[1].weight, network[1].bias, network[1].running_mean, network[1].running_var):
            tensor[channel] = tensor[of]  # type: ignore[index]
    scale(network, channel, factor)


@torch.no_grad()
def dead(network: nn.Sequential, channel: int) -> None:
    (norm := network[1] if isinstance(network[1], nn.BatchNorm2d) else network[0]).weight[channel] = 0  # type: ignore[operator]
    if isinstance(norm, nn.BatchNorm2d):
        norm.bias[channel] = 0


@torch.no_grad()
def unread(network: nn.Sequential, channel: int) -> None:
    reader(network).weight[:, channel] = 0


SINGULARITIES: dict[str, tuple[int, Callable[[nn.Sequential], None]]] = {
    "none": (16, lambda network: None),
    "overlap": (15, lambda network: overlap(network, 3, of=1)),
    "linear": (15, lambda network: overlap(network, 5, of=2, factor=2.0)),
    "elimination, incoming": (15, lambda network: dead(network, 7)),
    "elimination, outgoing": (15, lambda network: unread(network, 9)),
}


def everything(network: nn.Sequential) -> None:
    for _, plant in SINGULARITIES.values():
        plant(network)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(("rank", "plant"), [*SINGULARITIES.values(), (12, everything)], ids=[*SINGULARITIES, "all"])
def test_planted_singularities_lower_the_rank(rank: int, plant: Any, norm: bool) -> None:
    network = net(norm=norm)
    plant(network)
    assert gradients.numerical_rank(gram(network), "relative", EXACT) == rank


def incoming(network: nn.Sequential) -> Tensor:
    """The Gram matrix of the gradients of the weights that write a channel: what a naive analysis looks at."""
    task, found = digits(), torch.zeros(16, 16, dtype=torch.float64)
    for images, labels in gradients.micro_batches(task, RUN, 48, 1):
        (gradient,) = torch.autograd.grad(task.loss(network(images.double()), labels), [network[0].weight])  # type: ignore[list-item]
        found += gradient.flatten(1) @ gradient.flatten(1).T
    return found


@pytest.mark.parametrize("name", ["overlap", "linear"])
def test_incoming_gradients_miss_overlaps(name: str) -> None:
    network = net()
    SINGULARITIES[name][1](network)
    assert gradients.numerical_rank(incoming(network), "relative", EXACT) == 16


def test_a_gram_matrix_is_that_of_the_gradients() -> None:
    network, task = net(), digits()
    matrices = []
    for images, labels in gradients.micro_batches(task, RUN, 5, 4):
        weight = reader(network).weight
        (gradient,) = torch.autograd.grad(task.loss(network(images.double()), labels), [weight])
        strength = weight.detach().transpose(0, 1).flatten(1).norm(dim=1)
        matrices.append(gradient.transpose(0, 1).flatten(1) * strength[:, None])
    matrix, found = torch.cat(matrices, 1), gram(network, 5, 4)
    torch.testing.assert_close(found, matrix @ matrix.T)
    torch.testing.assert_close(found, found.T, rtol=1e-12, atol=0)
    squares = torch.linalg.svdvals(matrix).square().flip(0)
    torch.testing.assert_close(torch.linalg.eigvalsh(found), squares, rtol=1e-6, atol=1e-9 * float(squares[-1]))


def test_too_few_gradients_bound_the_rank() -> None:
    """One sample, read by 12 weights of a 1×1 kernel: no more than 12 of 16 rows can be independent."""
    network = net()
    network[3] = nn.Conv2d(16, 12, 1).double()
    assert gradients.numerical_rank(gram(network, 1, 1), "relative", EXACT) <= 12
    assert gradients.numerical_rank(gram(network, 48, 1), "relative", EXACT) == 16


def test_an_orthogonal_mix_of_samples_changes_nothing_and_strengths_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """K is M·Qᵀ·Q·Mᵀ, another order of samples among the Q; without D, rescaling a channel would show."""
    network, (group,) = net(), groups_of(net())
    known = gram(network)
    root = torch.linalg.cholesky(known + 1e-12 * torch.eye(16, dtype=torch.float64))
    mix = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    mixed = root @ mix
    ranks = [gradients.numerical_rank(k, "energy", 0.05) for k in (known, mixed @ mixed.T)]
    assert ranks[0] == ranks[1]
    batches = list(gradients.micro_batches(digits(), RUN, 48, 1))
    monkeypatch.setattr(gradients, "micro_batches", lambda *_: reversed(batches))
    torch.testing.assert_close(gram(network), known)
    ((_, entries),) = gradients.readers(network, group)
    strength = gradients.rows(reader(network).weight.detach(), entries).norm(dim=1)
    bare = known / torch.outer(strength, strength)
    scale(network, 4, 3.0)
    with torch.no_grad():
        reader(network).weight[:, 4] /= 3.0
        strength[4] /= 3.0
    again = gram(network) / torch.outer(strength, strength)
    assert float(again[4, 4] / bare[4, 4]) == pytest.approx(9.0, rel=1e-6)


def test_the_order_of_filters_and_their_scale_change_nothing() -> None:
    network = net()
    known = gram(network)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    shuffled = copy.deepcopy(network)
    with torch.no_grad():
        for tensor in (*shuffled[0].parameters(), *shuffled[1].parameters(), *list(shuffled[1].buffers())[:2]):
            tensor.copy_(tensor[order].clone())
        reader(shuffled).weight.copy_(reader(network).weight[:, order])
    torch.testing.assert_close(gram(shuffled), known[order][:, order])
    scale(network, 4, 3.0)
    with torch.no_grad():
        reader(network).weight[:, 4] /= 3.0
    torch.testing.assert_close(gram(network), known, rtol=1e-9, atol=1e-12)


def test_doubling_every_filter_makes_half_of_them_redundant() -> None:
    network, double = net(8), net(16)
    with torch.no_grad():
        for ours, theirs in ((double[0], network[0]), (double[1], network[1])):
            for name, tensor in ours.state_dict().items():
                if tensor.ndim:
                    tensor.copy_(theirs.state_dict()[name].repeat(2, *(1,) * (tensor.ndim - 1)))
        reader(double).weight.copy_(reader(network).weight.repeat(1, 2, 1, 1) / 2)
        reader(double).bias.copy_(reader(network).bias)  # type: ignore[arg-type]
        double[-1].load_state_dict(network[-1].state_dict())
    ranks = [gradients.numerical_rank(gram(n), "relative", EXACT) for n in (network, double)]
    assert ranks == [8, 8]
    assert gradients.redundancy({"0": ranks[1]}, groups_of(double)) == 0.5


def test_ranks_of_a_spectrum_by_hand() -> None:
    spectrum = torch.diag(torch.tensor([100.0, 25.0, 4.0, 1.0, 0.0], dtype=torch.float64))
    assert [gradients.numerical_rank(spectrum, "energy", e) for e in (0.3, 0.1, 0.04, 0.02, 0.001)] == [1, 2, 2, 3, 4]
    assert [gradients.numerical_rank(spectrum, "relative", t) for t in (0.3, 0.15, 0.05)] == [2, 3, 4]
    assert gradients.numerical_rank(torch.eye(5, dtype=torch.float64), "entropy") == 5
    assert gradients.numerical_rank(torch.diag(torch.tensor([1.0, 0, 0], dtype=torch.float64)), "entropy") == 1


def test_one_of_a_pair_goes_and_the_planted_go_first() -> None:
    network = net()
    everything(network)
    known = gram(network)
    kept = torch.ones(16, dtype=torch.bool)
    order, damage = gradients.cheapest(known, kept, 5)
    pairs = ({1, 3}, {2, 5})
    assert all(len(pair & set(order[:4])) == 1 for pair in pairs) and {7, 9} <= set(order[:4])
    damages = [gradients.cheapest(known, kept, n)[1] for n in range(1, 12)]
    assert all(later >= earlier for earlier, later in itertools.pairwise(damages))
    damages = [d / float(known.trace()) for d in damages]
    assert damages[3] < 1e-6 < 1e-4 < damages[4] == pytest.approx(damage / float(known.trace()))


def test_redundant_filters_leave_the_output_as_it_is() -> None:
    network = net()
    everything(network)
    task = digits()
    images = torch.randn(6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = network(images)
    (group,) = groups_of(network)
    before = torch.ones(16, dtype=torch.bool)
    after = before.clone()
    after[gradients.cheapest(gram(network), before, 4)[0]] = False
    zeroed = copy.deepcopy(network)
    pruning.compensate(Single(network), group, before, after, task)
    with torch.no_grad():
        torch.testing.assert_close(network(images), wanted, rtol=1e-5, atol=1e-6)
        reader(zeroed).weight[:, ~after] = 0
        assert (zeroed(images) - wanted).abs().max() > 1e-3  # zeros alone are not enough


class Single(nn.Module):
    """Lets a network in fp64 see fp32 images; its modules keep their paths."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self._modules = network._modules
        self._run = network.forward

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self._run(x.double())
        return found


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda network: network[0].weight.data.fill_(float("nan")), "the network's outputs are not finite"),
        (lambda network: network[-1].bias.data.fill_(float("nan")), "the network's outputs are not finite"),
        (lambda network: network[-1].weight.data.zero_(), "the gradient matrix of 0 is zero: the loss does not depend"),
    ],
)
def test_gradients_that_say_nothing_are_errors(damage: Any, complaint: str) -> None:
    network = net(norm=False)
    damage(network)
    for targets in ("labels", "drawn"):
        with pytest.raises(MethodError, match=complaint):
            gram(network, targets=targets)


def test_gradients_that_are_not_finite_are_an_error_of_their_own() -> None:
    """Where all outputs are finite."""
    network = net(norm=False)
    reader(network).weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(MethodError, match="the gradients at 0 are not finite: the network or its images hold NaN"):
        gram(network)


def points(**changes: Any) -> list[Any]:
    config = hierarchical.Config(**{"batches": 16, "size": 16, "share": 0.25, **changes})
    fresh = test_every_method.MemoryRun(RUN.budget)  # one that remembers no choice
    return list(hierarchical.compress(tasks.load("digits", "digits_resnet"), config, fresh))


def test_no_layer_falls_below_its_floor_and_the_table_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierarchical, "PROTECTED", 0.3)
    found = points(targets=(0.2, 0.5))
    for point in found:
        network = bitstream.decode(bitstream.encode(point))
        notes = point.notes
        for name, size, needed, floor, kept in notes["layers"]:
            assert 1 <= floor <= min(kept, needed) and kept <= size
            assert network.get_submodule(name).out_channels == kept
        assert all(0 < notes[f"redundancy{unit}"] < 1 for unit in ("", "_params", "_macs"))
        spare = sum(size - floor for _, size, _, floor, _ in notes["layers"])
        assert 0 < notes["steps"] <= spare and notes["gradient_passes"] >= 1
    assert found[0].notes["redundancy"] == found[1].notes["redundancy"]


def test_a_step_that_changes_too_many_decisions_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step is judged bad: the network is the old one to the bit and its layer is left alone."""
    task = tasks.load("digits", "digits_resnet")
    prunable = analyse(task)
    known = gradients.grams(task.reference(), prunable.groups, task, RUN, 16, 16, "drawn")
    floors = {name: gradients.numerical_rank(k, "energy", 0.3) for name, k in known.items()}
    verdicts = iter([1.0, 0.5])
    seen: list[dict[str, Tensor]] = []

    class Judge(pruning.Judge):
        def __call__(self, _network: nn.Module) -> float:
            seen.append({name: t.clone() for name, t in state.dense.state_dict().items()})
            return next(verdicts, 1.0)

    monkeypatch.setattr(pruning, "Judge", Judge)
    monkeypatch.setattr(pruning, "REFRESH", 100)
    state = pruning.State(task.reference(), prunable.all_kept(), known, 0.01, set(), dict.fromkeys(known, 1.0))
    goal = prunable.goal(0.1)
    pruning.prune(state, prunable, goal, floors, hierarchical.Config(share=0.2), lambda *_: known)
    assert state.undone == 1 and len(state.frozen) == 1 and state.steps >= 1
    (left_alone,) = state.frozen
    assert state.keep[left_alone].all() and prunable.macs(state.keep) <= goal
    reference = task.reference().state_dict()
    read = left_alone.replace("conv1", "conv2")  # what compensation had changed
    for path in (f"{left_alone}.weight", f"{read}.weight"):
        assert torch.equal(seen[2][path], reference[path]) and torch.equal(
            state.dense.state_dict()[path], reference[path]
        )
    (other, *_) = [name.replace("conv1", "conv2") for name, kept in state.keep.items() if not kept.all()]
    assert not torch.equal(state.dense.state_dict()[f"{other}.weight"], reference[f"{other}.weight"])


def test_a_step_is_judged_once_while_the_network_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """All layers are refused until the tolerance has doubled five times; the second time round, verdicts are known."""
    task = tasks.load("digits", "digits_resnet")
    prunable = analyse(task)
    known = gradients.grams(task.reference(), prunable.groups, task, RUN, 16, 16, "drawn")
    calls = 0

    class Judge(pruning.Judge):
        def __call__(self, _network: nn.Module) -> float:
            nonlocal calls
            calls += 1
            return 1.0 if calls == 1 else 0.75

    monkeypatch.setattr(pruning, "Judge", Judge)
    state = pruning.State(task.reference(), prunable.all_kept(), known, 0.01, set(), dict.fromkeys(known, 1.0))
    floors = dict.fromkeys(known, 1)
    pruning.prune(state, prunable, prunable.goal(0.02), floors, hierarchical.Config(share=0.5), lambda *_: known)
    groups = len(prunable.groups)
    assert state.steps == 1 and state.undone == 5 * groups and state.tolerance == 0.32
    assert calls == 1 + groups + 1  # the dense network, each layer, and the step that was taken in the end


def test_when_no_layer_takes_more_the_tolerance_doubles() -> None:
    (point,) = points(targets=(0.5,), tolerance=1e-6)
    assert point.notes["undone"] > 0 and point.notes["tolerance"] > 1e-6


def test_streams_can_be_pruned_too() -> None:
    (point,) = points(targets=(0.4,), where="streams")
    names = [name for name, *_ in point.notes["layers"]]
    assert "conv1" in names and "layer2.0.conv2" in names
    bitstream.decode(bitstream.encode(point))
