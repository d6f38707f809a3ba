"""Learning rates of budgets: what was tried is recorded, and params.yaml has what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.errors import RateBenchError
from benchmarks.running import learning_rates, params, plan
from benchmarks.running.learning_rates import Trial

ROOT = Path(__file__).resolve().parent.parent


def test_the_best_rate_is_chosen_and_the_lowest_of_equals() -> None:
    scores: dict[str, Any] = {"0.001": 0.9, "0.03": 0.91, "0.003": 0.91, "0.01": 0.5}
    assert Trial(["svd"], "short", 1.0, {}, scores, None, None, {}, "").chosen == 0.003


def test_params_have_the_rates_that_were_chosen() -> None:
    """And no others: each one of params.yaml has a trial that chose it."""
    found = {(b, n, k): rate for b, n, k, rate in learning_rates.chosen(ROOT / "results")}
    listed = {
        (budget, network, key): rate
        for budget, networks in params._params().rates.items()
        for network, by_method in networks.items()
        for key, rate in by_method.items()
    }
    assert listed == found


def test_a_trial_is_a_run_of_one_point_for_each_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_rates, "GRID", (0.001, 0.01))
    monkeypatch.chdir(ROOT)
    said: list[str] = []
    found = learning_rates.tried("digits", ["l1_filter", "fpgm"], "digits_cnn", "short", tmp_path, said.append)
    assert set(found.scores) == {"0.001", "0.01"} and all(0 < score <= 1 for score in found.scores.values())
    assert found.config["targets"] == [0.5]
    file = tmp_path / "digits" / "digits_cnn" / learning_rates.FILE
    assert learning_rates.read(file) == [found]
    assert not any((tmp_path / ".work").iterdir())
    expected = [("short", "digits_cnn", key, found.chosen) for key in ("l1_filter", "fpgm")]
    assert list(learning_rates.chosen(tmp_path)) == expected
    learning_rates.tried("digits", ["magnitude"], "digits_cnn", "short", tmp_path, said.append)
    assert len(learning_rates.read(file)) == 2


def test_a_budget_without_training_has_no_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for budget in ("post-training", "paper"):
        with pytest.raises(RateBenchError, match="no learning rate to choose"):
            learning_rates.tried("digits", ["svd"], "digits_resnet", budget, tmp_path, print)


def test_cells_have_the_rate_of_their_network_and_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text(
        "own: {task: digits, networks: [digits_cnn, digits_resnet], methods: [magnitude, l1_filter], seeds: [0]}\n"
        "budgets: {post-training: {epochs: 0}, short: {epochs: 1, learning_rates: {digits_cnn: {magnitude: 0.003}}}}\n"
        "configs: {}\n"
    )
    monkeypatch.setattr(params, "PARAMS", tmp_path / "params.yaml")
    params._params.cache_clear()
    try:
        cells = plan.cells("own", budget_name="short")
    finally:
        params._params.cache_clear()
    found = {(cell.network, cell.method): cell.budget.learning_rate for cell in cells}
    rates = {("digits_cnn", "magnitude"): 0.003, ("digits_cnn", "l1_filter"): None}
    assert found == rates | {("digits_resnet", "magnitude"): None, ("digits_resnet", "l1_filter"): None}
    by_rate = {cell.budget.learning_rate: cell.fingerprint() for cell in cells if cell.method == "magnitude"}
    assert len(set(by_rate.values())) == 2
