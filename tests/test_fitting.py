"""Sine networks fitted together: each as if it were alone, by the paper's rules."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_every_method import POST_TRAINING, MemoryRun
from torch import Tensor, nn

from benchmarks import networks, tasks
from benchmarks.errors import RateBenchError
from benchmarks.evaluation.scoring import total_score
from benchmarks.fingerprint import ROOT
from benchmarks.networks import sine
from benchmarks.running import params, recipes, reference_training
from benchmarks.tasks.kinds import trained
from benchmarks.training import fitting
from benchmarks.training.fitting import Fit

SIZE, PIXELS = (8, 12), 96


def pictures(count: int) -> Tensor:
    return torch.randint(256, (count, PIXELS, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def made(count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [networks.build("sine", {"size": list(SIZE), "width": 6, "frequencies": 3}) for _ in range(count)]


def fitted(count: int, recipe: Fit, saved: dict[str, Any] | None = None) -> list[dict[str, Tensor]]:
    run = MemoryRun(POST_TRAINING, saved=saved)
    return fitting.fitted(made(count), sine.coordinates(*SIZE), pictures(count), recipe, run)


def loss(state: dict[str, Tensor], number: int, penalty: float) -> float:
    network = made(1)[0]
    network.load_state_dict(state)
    wanted = pictures(number + 1)[number] / 127.5 - 1
    size = sum(float(tensor.abs().sum()) for tensor in state.values())
    return nn.functional.mse_loss(network(sine.coordinates(*SIZE)[None])[0], wanted).item() + penalty * size


def by_hand(number: int, recipe: Fit) -> dict[str, Tensor]:
    """One network, with torch's own optimiser and plateau rule."""
    network = made(number + 1)[number]
    optimiser = torch.optim.Adam(network.parameters(), recipe.lr)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=recipe.patience)
    x, wanted = sine.coordinates(*SIZE)[None], pictures(number + 1)[number] / 127.5 - 1
    best, kept, stale = float("inf"), {}, 0
    for _ in range(recipe.steps):
        optimiser.zero_grad()
        size = torch.stack([p.abs().sum() for p in network.parameters()]).sum()
        found = nn.functional.mse_loss(network(x)[0], wanted) + recipe.penalty * size
        stale += 1
        if found.item() < best:
            best, stale = found.item(), 0
            kept = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        if stale >= recipe.stop:
            break
        found.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        plateau.step(found.item())
    return kept


@pytest.mark.parametrize(
    "recipe",
    [Fit(30, 1e-3), Fit(30, 1e-3, 0.01), Fit(30, 2e-3, patience=0), Fit(60, 0.3, patience=50, stop=4)],
    ids=["plain", "penalty", "plateau", "stop"],
)
def test_stacked_networks_are_those_of_torch_one_by_one(recipe: Fit) -> None:
    """Wrong code that this finds: gradients that mix networks, rules for all networks together, a penalty that is a mean."""
    for number, state in enumerate(fitted(3, recipe)):
        alone = by_hand(number, recipe)
        assert loss(state, number, recipe.penalty) == pytest.approx(loss(alone, number, recipe.penalty), rel=2e-3)
        if recipe.lr < 0.01:
            for name, tensor in alone.items():
                torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=1e-3 if recipe.patience == 0 else 1e-4)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_blocks_change_no_gradient(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    networks_ = made(2)
    theta = torch.stack([nn.utils.parameters_to_vector(n.parameters()).detach() for n in networks_])
    shapes = [parameter.shape for parameter in networks_[0].parameters()]
    encoded = sine.Encoding(3)(sine.coordinates(*SIZE))
    chosen = None if share == 1 else torch.randperm(PIXELS)[: int(share * PIXELS)]
    targets = pictures(2) / 127.5 - 1
    errors, gradient = fitting.gradients(theta, shapes, encoded, targets, chosen)
    monkeypatch.setattr(fitting, "BLOCK", 7)
    again, same = fitting.gradients(theta, shapes, encoded, targets, chosen)
    torch.testing.assert_close(again, errors)
    torch.testing.assert_close(same, gradient)


def test_the_lowest_loss_counts_not_the_last() -> None:
    recipe = Fit(40, lr=0.5, penalty=0.0)  # which diverges
    (state,), start = fitted(1, recipe), {name: t.detach() for name, t in made(1)[0].state_dict().items()}
    assert loss(state, 0, 0.0) <= loss(start, 0, 0.0)


def test_each_pixel_is_seen_once_in_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    gradients = fitting.gradients

    def noted(*arguments: Any) -> tuple[Tensor, Tensor]:
        seen.append(arguments[4])
        return gradients(*arguments)

    monkeypatch.setattr(fitting, "gradients", noted)
    fitted(1, Fit(8, share=0.25))
    passes = [torch.cat(seen[start : start + 4]) for start in (0, 4)]
    assert all(len(one) == 24 for one in seen)
    assert all(torch.equal(one.sort().values, torch.arange(PIXELS)) for one in passes)
    assert not torch.equal(*passes)


def test_a_larger_penalty_leaves_smaller_weights() -> None:
    sizes = [
        sum(float(tensor.abs().sum()) for tensor in fitted(1, Fit(300, lr=0.005, penalty=penalty))[0].values())
        for penalty in (0.0, 0.01)
    ]
    assert sizes[1] < 0.8 * sizes[0]


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_fitting_goes_on_after_an_interruption(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "OFTEN", 5)
    recipe = Fit(17, lr=0.01, share=share)
    whole = fitted(2, recipe)
    saved: dict[str, Any] = {}
    fitted(2, replace(recipe, steps=10), saved)
    assert saved[fitting.STAGE]["step"] == 10
    for one, other in zip(whole, fitted(2, recipe, saved), strict=True):
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_references_of_one_size_are_fitted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lands under its own name, with the quality that its note says; what is fitted stays."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(
        trained, "path", lambda task, network: tmp_path / "references" / task / f"{network}.safetensors"
    )
    recipe = recipes.checked({"thumbnails": {"*": {"source": "a test", "steps": 12, "share": 0.25}}}, "here")
    monkeypatch.setattr(params, "recipe", lambda task, network: recipes.of(recipe, task, network))
    said: list[str] = []
    reference_training.train_all("thumbnails", ["china", "flower"], said.append)
    for name in ("china", "flower"):
        task = tasks.load("thumbnails", name)
        note = json.loads((tmp_path / "references" / "thumbnails" / f"{name}.json").read_bytes())
        assert note["together"] == 2 and note["recipe"]["share"] == 0.25
        assert note["validation"] == {"psnr": pytest.approx(total_score(task.reference(), task.validation, task))}
    assert sum("step 12" in line for line in said) == 1 and not [*tmp_path.rglob("*.pt")]
    reference_training.train("thumbnails", "china", said.append)
    assert "trained already" in said[-1]


@pytest.mark.parametrize("changes", [{"share": 0}, {"share": 2}, {"epochs": 3}, {"steps": 0}])
def test_a_wrong_recipe_of_a_picture_is_a_sentence(changes: dict[str, Any]) -> None:
    with pytest.raises(RateBenchError, match=r"here, thumbnails, \*"):
        recipes.checked({"thumbnails": {"*": {"source": "a test", "steps": 5} | changes}}, "here")
