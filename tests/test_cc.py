"""Collaborative compression: closed forms against brute force, rates and paths, and networks that compute what they should."""

from __future__ import annotations

import itertools
import math
from typing import Any

import msgspec
import pytest
import torch
from sklearn.linear_model import LinearRegression
from test_every_method import MemoryRun
from torch import Tensor, nn

from benchmarks import bitstream, tasks
from benchmarks.errors import MethodError
from benchmarks.evaluation import measure
from benchmarks.training import Callback
from methods import cc
from methods.cc import gradients, rates, realise, training
from methods.cc.rates import Fit
from methods.cc.realise import Frame
from methods.cc.scores import scores
from methods.cc.steps import Decision, Path, interval
from methods.cc.units import Convolution, State, components
from methods.interface import Budget

torch.set_num_threads(1)
POST, SHORT, PAPER = Budget("post-training", 0.0), Budget("short", 1.0), Budget("paper", None)
SHAPES = [(5, 6, 3), (12, 3, 1), (4, 7, 1), (20, 2, 3), (8, 8, 3)]  # outputs, channels, kernel: wide and tall matrices


def convolution(outputs: int, channels: int, kernel: int, seed: int = 0) -> Convolution:
    draws = torch.Generator().manual_seed(seed)
    weight, gradient = (
        torch.randn(outputs, channels * kernel**2, generator=draws, dtype=torch.float64) for _ in range(2)
    )
    return Convolution(weight, gradient.square(), channels, 10)


def loss(conv: Convolution, matrix: Tensor) -> float:
    return float((conv.squares * (matrix - conv.weight).square()).sum())


def whole(state: State) -> Tensor:
    found = torch.zeros_like(state.of.weight)
    found[:, state.columns] = state.matrix
    return found


def units(conv: Convolution, matrix: Tensor, kept: Tensor, left: int) -> list[Tensor]:
    """What each channel and each component takes from a matrix, by LAPACK's SVD."""
    found = []
    for channel in kept.nonzero()[:, 0].tolist():
        own = torch.zeros_like(matrix)
        columns = slice(channel * conv.area, (channel + 1) * conv.area)
        own[:, columns] = matrix[:, columns]
        found.append(own)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return [*found, *(s[r] * torch.outer(u[:, r], v[r]) for r in range(left))]


def brute_force(state: State) -> tuple[list[float], list[float]]:
    """B and E of each candidate: E is the mean of the loss over all next removals."""
    conv, matrix, kept = state.of, whole(state), state.kept
    now, after = [], []
    for place, own in enumerate(units(conv, matrix, kept, state.left)):
        later, left = kept.clone(), state.left
        if place < int(kept.sum()):
            later[kept.nonzero()[place, 0]] = False
        else:
            left -= 1
        now.append(loss(conv, matrix - own))
        following = units(conv, matrix - own, later, left)
        after.append(sum(loss(conv, matrix - own - each) for each in following) / len(following))
    return now, after


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_those_of_brute_force(shape: tuple[int, int, int]) -> None:
    state = State(convolution(*shape))
    for removal in range(3):
        assert state.loss() == pytest.approx(loss(state.of, whole(state)), abs=1e-10)
        now, after = brute_force(state)
        found = scores(state)
        assert torch.cat([found.channels[0], found.components[0]]).tolist() == pytest.approx(now, rel=1e-10, abs=1e-10)
        assert torch.cat([found.channels[1], found.components[1]]).tolist() == pytest.approx(after, rel=1e-9, abs=1e-9)
        if removal == 0 and shape[1] > 2:
            state.remove_channel(1)
        elif state.left > 1:
            state.remove_component(state.left - 2)


def test_frozen_components_change_only_the_expected_loss_of_channels() -> None:
    state = State(convolution(8, 8, 3))
    exact, frozen = scores(state), scores(state, exact=False)
    assert torch.equal(exact.components[1], frozen.components[1]) and torch.equal(exact.channels[0], frozen.channels[0])
    gap = (exact.channels[1] - frozen.channels[1]).abs() / exact.channels[1]
    assert 0 < gap.max() < 0.05


def test_a_layer_without_a_unit_of_full_rank_offers_components_that_cost_nothing() -> None:
    """Fewer channels than the rank needs: the components that are left but zero are free to remove."""
    state = State(convolution(8, 3, 1))
    state.remove_channel(0)
    assert state.left == 3 and state.components()[0].shape == (8, 3)
    assert scores(state).components[0][-1] == pytest.approx(state.loss())


def test_removed_components_leave_the_others() -> None:
    """No second decomposition is needed after a component, and one is made after a channel."""
    state = State(convolution(6, 5, 3))
    state.components()
    state.remove_component(1)
    a, b = state.components()
    again = components(state.matrix)
    assert torch.allclose(a @ b.T, state.matrix) and torch.allclose(
        a.square().sum(0) * b.square().sum(0), sizes(again)[:5]
    )
    state.remove_channel(2)
    a, b = state.components()
    assert torch.allclose(a @ b.T, state.matrix) and torch.allclose(sizes((a, b)), sizes(components(state.matrix))[:5])


def sizes(pair: tuple[Tensor, Tensor]) -> Tensor:
    return pair[0].square().sum(0) * pair[1].square().sum(0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_loss_curve_is_that_of_removing_units_one_after_the_other(shape: tuple[int, int, int]) -> None:
    """With an SVD of the present matrix for each component, whose place shifts with those that are gone."""
    conv = convolution(*shape)
    u, s, v = torch.linalg.svd(conv.weight, full_matrices=False)
    own = [
        loss(conv, conv.weight - unit) for unit in units(conv, conv.weight, torch.ones(conv.channels).bool(), conv.rank)
    ]
    matrix, gone, channels, expected = conv.weight.clone(), list[int](), 0, []
    for unit in sorted(range(len(own)), key=own.__getitem__):
        if unit < conv.channels:
            matrix[:, unit * conv.area : (unit + 1) * conv.area] = 0
            channels += 1
        else:
            u, s, v = torch.linalg.svd(matrix, full_matrices=False)
            s[unit - conv.channels - sum(other < unit for other in gone)] = 0
            matrix = (u * s) @ v
            gone.append(unit)
        rank = conv.rank - len(gone)
        inputs = (conv.channels - channels) * conv.area
        now = inputs * conv.outputs if not gone else rank * (inputs + conv.outputs)
        expected.append((1 - now / conv.weight.numel(), loss(conv, matrix)))
    found = list(zip(*rates.points(conv), strict=True))
    assert [rate for rate, _ in found] == pytest.approx([rate for rate, _ in expected])
    assert [each for _, each in found] == pytest.approx([each for _, each in expected], rel=1e-8, abs=1e-10)


def test_an_exponential_is_found_again_and_the_costly_end_counts() -> None:
    x = [place / 10 for place in range(-3, 11)]
    fit = rates.fitted(x, [0.01 * math.exp(4 * value) for value in x], "layer")
    assert (fit.p2, fit.p1) == (pytest.approx(4, abs=1e-3), pytest.approx(math.exp(-4), rel=1e-3))
    bent = [math.exp(4 * value) if value > 0.5 else 1e-3 for value in x]
    y = torch.tensor([loss for rate, loss in zip(x, bent, strict=True) if rate > 0]) / bent[-1]
    line = LinearRegression().fit(
        [[rate] for rate in x if rate > 0], (y + 1e-10).log(), y.sqrt()
    )  # the official code's
    fit = rates.fitted(x, bent, "layer")
    assert (math.log(fit.p1), fit.p2) == pytest.approx((float(line.intercept_), float(line.coef_[0])), rel=1e-3)
    for losses in ([0.0] * 14, [math.nan] * 14):
        with pytest.raises(MethodError, match="the loss of compressing layer can't be fitted: its gradients are zero"):
            rates.fitted(x, losses, "layer")


def test_rates_have_one_marginal_loss_and_meet_the_goal() -> None:
    macs = {"a": 1000, "b": 3000, "c": 500}
    fits = {"a": Fit(0.02, 4.0), "b": Fit(0.05, 3.0), "c": Fit(0.03, 3.5)}
    found = rates.shares(macs, fits, 2000.0)
    assert all(0 < rate < rates.MOST for rate in found.values())
    assert sum(found[path] * macs[path] for path in macs) == pytest.approx(2000, abs=1e-6)
    slopes = [fits[path].p1 * fits[path].p2 * math.exp(fits[path].p2 * rate) for path, rate in found.items()]
    assert slopes == pytest.approx([slopes[0]] * 3)
    series = [rates.shares(macs, fits, goal) for goal in (0.0, 50.0, 800.0, 2000.0, 4000.0, 4275.0)]
    assert all(later[path] >= earlier[path] for earlier, later in itertools.pairwise(series) for path in macs)
    assert set(series[0].values()) == {0.0} and [*series[-1].values()] == pytest.approx([rates.MOST] * 3)
    with pytest.raises(MethodError, match="4,276 multiply-accumulates are to be removed from layers that have 4,500"):
        rates.shares(macs, fits, 4276.0)


@pytest.mark.parametrize("shape", [(8, 8, 3), (12, 6, 1)])
def test_paths_stop_at_the_first_state_that_saves_enough(shape: tuple[int, int, int]) -> None:
    """Overall or by its channels alone; whatever was asked for before. Nothing to save leaves the layer as it is."""
    conv = convolution(*shape)
    path, asked = Path(conv, 0.9, "both", True), Path(conv, 0.9, "both", True)
    dense = conv.macs(conv.channels, None)
    assert path.until(0.0).kept.all() and path.until(0.0).rank is None
    last = path.until(2.0 * dense)
    assert int(last.kept.sum()) == 1 and last.rank in (1, None)
    for share in (0.6, 0.1, 0.4, 0.05):
        goal = share * dense
        kept, left = next(state for state in path._known if max(conv.saved(int(state[0].sum()), state[1])) >= goal)
        saved, _ = conv.saved(int(kept.sum()), left)
        decision = asked.until(goal)
        assert torch.equal(decision.kept, kept)
        assert decision.rank == (None if saved < goal or left == conv.rank else left)


def test_without_a_look_ahead_paths_are_greedy() -> None:
    conv = convolution(6, 5, 3)
    assert interval(conv) == 1 and interval(convolution(64, 64, 3)) == 1 and interval(convolution(200, 200, 1)) == 4
    path = Path(conv, 0.0, "both", True)
    path.until(0.7 * conv.macs(5, None))
    state = State(conv)
    for kept, left in path._known:
        now, _ = brute_force(state)
        best = min(range(len(now)), key=now.__getitem__)
        channels = state.kept.nonzero()[:, 0]
        if best < len(channels):
            state.remove_channel(int(channels[best]))
        else:
            state.remove_component(best - len(channels))
        assert torch.equal(kept, state.kept) and left == state.left


@pytest.mark.parametrize(("units_", "rank", "channels"), [("channels", {None}, False), ("components", {3, 4}, True)])
def test_one_kind_of_unit_alone(units_: Any, rank: set[int | None], channels: bool) -> None:
    conv = convolution(8, 8, 3)
    decision = Path(conv, 0.9, units_, True).until(0.45 * conv.macs(8, None))
    assert decision.rank in rank and bool(decision.kept.all()) == channels


def digits() -> Any:
    return tasks.load("digits", "digits_resnet")


@pytest.fixture(scope="module")
def frame() -> Frame:
    return realise.frame(digits(), MemoryRun(POST))


def full(frame: Frame) -> dict[str, Decision]:
    return {p: Decision(torch.ones(m.in_channels, dtype=torch.bool), None) for p, m in frame.layers.items()}


def test_everything_between_the_first_and_the_last_layer_is_compressed(frame: Frame) -> None:
    assert len(frame.layers) == 14 and not {"conv1", "linear"} & frame.layers.keys()
    assert frame.dense == measure.macs(digits().reference(), digits().prepare(digits().calibration(1).inputs))


def test_no_removal_is_the_reference(frame: Frame) -> None:
    slim = frame.realised(digits().reference(), full(frame))
    assert not slim.edits and frame.macs(full(frame)) == frame.dense


def test_all_components_are_the_convolution_itself(monkeypatch: pytest.MonkeyPatch, frame: Frame) -> None:
    """Pairs of full rank, made although they cost more, give the reference's logits."""
    monkeypatch.setattr(realise, "_values", lambda layer, outputs, decision: (0, decision.rank))
    decisions = {p: d._replace(rank=min(frame.layers[p].weight.flatten(1).shape)) for p, d in full(frame).items()}
    reference = digits().reference()
    network = frame.realised(reference, decisions).realise(digits(), reference)
    images = digits().prepare(digits().calibration(20).inputs)
    assert isinstance(network.layer1[0].conv1, nn.Sequential)
    assert torch.allclose(network(images), reference(images), rtol=1e-4, atol=1e-4)


def masked(frame: Frame, decisions: dict[str, Decision], reference: nn.Module) -> nn.Module:
    """The dense network with zeros for the channels that layers do not read."""
    for path, decision in decisions.items():
        with torch.no_grad():
            reference.get_submodule(path).weight[:, ~decision.kept] = 0
    return reference


def test_gathered_channels_and_missing_filters_compute_the_masked_network(frame: Frame) -> None:
    """And its multiply-accumulates are those that were predicted."""
    draws = torch.Generator().manual_seed(0)
    decisions = {}
    for path, layer in frame.layers.items():
        kept = torch.rand(layer.in_channels, generator=draws) < 0.6
        kept[0] = True
        decisions[path] = Decision(kept, None)
    reference = digits().reference()
    slim = frame.realised(reference, decisions)
    network = slim.realise(digits(), reference)
    images = digits().prepare(digits().calibration(20).inputs)
    assert torch.allclose(network(images), masked(frame, decisions, digits().reference())(images), atol=1e-4)
    assert frame.macs(decisions) == measure.macs(network, images[:1])
    read = int(decisions["layer3.2.conv2"].kept.sum())
    assert network.layer3[2].conv1[-1].out_channels == network.layer3[2].bn1.num_features == read
    assert isinstance(network.layer3[2].conv2, nn.Conv2d), "all of its channels are read"


def test_pairs_keep_stride_padding_and_bias_and_the_best_approximation() -> None:
    layer = nn.Conv2d(6, 8, 3, stride=2, padding=1)
    kept = torch.tensor([True, True, False, True, True, False])
    spec, tensors = realise._replaced(layer, kept, 4)
    first, second = spec.children[1].arguments, spec.children[2].arguments
    assert (first["stride"], first["padding"], first["bias"], second["bias"]) == ((2, 2), (1, 1), False, True)
    assert torch.equal(tensors["2.bias"], layer.bias) and tensors["0.index"].tolist() == [0, 1, 3, 4]
    product = tensors["2.weight"].flatten(1) @ tensors["1.weight"].flatten(1)
    wanted = layer.weight.detach()[:, kept].flatten(1)
    u, s, v = torch.linalg.svd(wanted)
    assert torch.allclose(product, (u[:, :4] * s[:4]) @ v[:4], atol=1e-5)
    norms = tensors["2.weight"].flatten(1).norm(dim=0), tensors["1.weight"].flatten(1).norm(dim=1)
    assert torch.allclose(norms[0], norms[1], atol=1e-5) and torch.allclose(norms[0], s[:4].sqrt(), atol=1e-5)


def test_a_pair_that_saves_nothing_is_not_made() -> None:
    layer = nn.Conv2d(8, 8, 3)
    decision = Decision(torch.ones(8, dtype=torch.bool), 7)
    assert realise._values(layer, 8, decision) == (7 * 80, 7)
    assert realise._values(layer, 7, decision) == (7 * 72, None)


def test_the_gradient_is_the_mean_over_items_with_labels_or_predictions() -> None:
    task, run = digits(), MemoryRun(POST)
    split = task.calibration(150)
    reference = task.reference()
    outputs = reference(task.prepare(split.inputs))
    for labels, targets in ((True, split.targets), (False, outputs.argmax(1))):
        weight = reference.layer2[0].conv1.weight
        (expected,) = torch.autograd.grad(task.loss(outputs, targets), weight, retain_graph=True)
        found = gradients.mean_gradient(task.reference(), task, run, ["layer2.0.conv1"], split, labels)
        assert torch.allclose(found["layer2.0.conv1"], expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("units_", ["both", "channels", "components"])
def test_points_meet_their_targets_in_multiply_accumulates(frame: Frame, units_: Any) -> None:
    task = digits()
    config = cc.Config(targets=(0.3, 0.6) if units_ == "both" else (0.4,), units=units_)
    for point, target in zip(cc.compress(task, config, MemoryRun(POST)), config.targets, strict=True):
        network = bitstream.decode(bitstream.encode(point))
        macs = measure.macs(network, task.prepare(task.calibration(1).inputs))
        assert macs == point.notes["macs"] and isinstance(layers := point.notes["layers"], list)
        assert all(isinstance(network.get_submodule(path)[-1], nn.Conv2d) for path, _, _, rank in layers if rank)  # type: ignore
        assert (
            0 < point.notes["kappa"] < target + 0.02
            and 0.85 * (1 - target) * frame.dense < macs <= (1 - target) * frame.dense
        )
        pairs = [p for p, m in network.named_modules() if isinstance(m, nn.Conv2d) and p.endswith((".1", ".2"))]
        gathers = [p for p in network.state_dict() if p.endswith("index")]
        assert units_ != "channels" or all(f"{p.rpartition('.')[0]}.0.index" in gathers for p in pairs)
        assert units_ != "components" or not [p for p in gathers if "shortcut" not in p]


def test_a_target_beyond_reach_is_said() -> None:
    small = tasks.load("digits", "digits_cnn")
    with pytest.raises(MethodError, match=r"the MACs can't fall to .* remain at the most"):
        list(cc.compress(small, cc.Config(targets=(0.97,), units="components"), MemoryRun(POST)))


def test_a_resumed_run_searches_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: dict[str, Any] = {}
    config = cc.Config(targets=(0.4,), images=256)
    (point,) = cc.compress(tasks.load("digits", "digits_cnn"), config, MemoryRun(SHORT, saved=saved))
    monkeypatch.setattr(cc, "_Search", None)
    (again,) = cc.compress(tasks.load("digits", "digits_cnn"), config, MemoryRun(SHORT, saved=saved))
    assert bitstream.encode(again) == bitstream.encode(point)


def test_the_paper_budget_clips_gradients_and_pads_twice() -> None:
    task, config, run = digits(), cc.Config(), MemoryRun(PAPER)
    network = nn.Linear(3, 2)
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 5.0)
    inner: list[str] = []

    class Told(Callback):
        def before_step(self, optimiser: torch.optim.Optimizer) -> None:
            inner.append("step")

    training.Clipped(network, Told()).before_step(torch.optim.SGD(network.parameters(), lr=0.1))
    norm = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).norm()
    assert norm == pytest.approx(1, rel=1e-4) and inner == ["step"]
    assert isinstance(training.callback(config, run, network), training.Clipped)
    assert not isinstance(training.callback(config, MemoryRun(SHORT), network), training.Clipped)
    cifar = tasks.load("cifar10", "resnet20")
    recipe = training.recipe(cifar, config, run, 300)
    assert recipe.augmentation is not None and (recipe.augmentation.padding, recipe.augmentation.flip) == (8, True)
    assert [recipe.lr * recipe.factor(epoch) for epoch in (0, 149, 150, 225)] == pytest.approx([0.1, 0.1, 0.01, 0.001])
    assert training.recipe(task, config, MemoryRun(SHORT), 1.0).lr == training.SHORT_LEARNING_RATE


def test_what_can_not_be_done_is_said() -> None:
    assert "no ordinary convolution" in str(cc.unsupported(tasks.load("mnist", "lenet_300_100"), cc.Config()))
    with pytest.raises(MethodError, match="gradients come from unlabelled images: set recalibrate"):
        next(cc.compress(digits(), cc.Config(recalibrate=0), MemoryRun(POST)))
    for changes, message in (
        ({"targets": [0.5, 0.3]}, "targets has to rise"),
        ({"milestones": [5, 2]}, "milestones have to rise"),
        ({"storage": "rdoq", "recalibrate": 0}, "set recalibrate"),
    ):
        with pytest.raises(msgspec.ValidationError, match=message):
            msgspec.convert(changes, cc.Config)
    broken = digits().reference()
    with torch.no_grad():
        broken.conv1.weight.fill_(torch.nan)
    with pytest.raises(MethodError, match=r"the gradients at layer1\.0\.conv1 are not finite"):
        gradients.mean_gradient(broken, digits(), MemoryRun(POST), ["layer1.0.conv1"], digits().calibration(8), False)
