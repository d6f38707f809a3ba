"""Learning rates of budgets: what was tried is recorded, and params.yaml has what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.errors import MethodError, RateBenchError
from benchmarks.running import learning_rates, params, plan
from benchmarks.running.learning_rates import Trial

ROOT = Path(__file__).resolve().parent.parent


def trial(**changes: Any) -> Trial:
    scores: dict[str, float | None] = {"0.0003": 0.5, "0.001": 0.9, "0.003": 0.91, "0.01": None, "0.03": 0.91}
    known = Trial("svd", ["svd"], "short", 1.0, {}, "f", scores, None, None, {}, "")
    return msgspec.structs.replace(known, **changes)


def test_the_best_rate_is_chosen_and_the_lowest_of_equals() -> None:
    assert trial().chosen == 0.003
    with pytest.raises(MethodError, match=r"svd diverged at every learning rate of 0\.001, 0\.01"):
        _ = trial(scores={"0.001": None, "0.01": None}).chosen


def test_params_have_the_rates_that_were_chosen() -> None:
    """Each rate of params.yaml has one trial that chose it, with the epochs and the configuration that are there now."""
    found: dict[tuple[str, str, str, str], float] = {}
    for file in (ROOT / "results").glob(f"*/*/{learning_rates.FILE}"):
        suite, network = file.parts[-3:-1]
        for known in learning_rates.read(file):
            cell = learning_rates.cell(suite, [known.method, *known.methods], network, known.budget)
            assert (known.epochs, known.config) == (cell.budget.epochs, cell.config), (network, known.methods)
            tried = {f"{rate:g}" for rate in learning_rates.wanted(known)}
            assert known.scores.keys() == tried, "the trial is not at its end"
            for key in known.methods:
                rate = found.setdefault((known.budget, cell.task, network, key), known.chosen)
                assert rate == known.chosen, "two suites chose different rates"
    listed = {
        (budget, task, network, key): rate
        for budget, tasks in params._params().rates.items()
        for task, networks in tasks.items()
        for network, by_method in networks.items()
        for key, rate in by_method.items()
    }
    assert listed == found


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_rates, "GRID", (0.001, 0.01))
    monkeypatch.chdir(ROOT)


def run(folder: Path, *keys: str) -> Trial:
    return learning_rates.tried(
        learning_rates.cell("digits", keys, "digits_cnn", "short"), keys, folder, lambda _: None
    )


def test_a_trial_is_a_run_of_one_point_for_each_rate(few: None, tmp_path: Path) -> None:
    found = run(tmp_path, "l1_filter", "fpgm")
    assert set(found.scores) == {"0.001", "0.01"} and all(0 < (score or 0) <= 1 for score in found.scores.values())
    assert found.method == "l1_filter" and found.config["targets"] == [0.5]
    file = tmp_path / "digits" / "digits_cnn" / learning_rates.FILE
    assert learning_rates.read(file) == [found]
    assert not [*(tmp_path / ".work").glob("rate-*")]
    assert found.methods == ["l1_filter", "fpgm"] and found.chosen in (0.001, 0.01)
    run(tmp_path, "fpgm")
    listed = [(one.method, one.methods) for one in learning_rates.read(file)]
    assert listed == [("fpgm", ["fpgm"]), ("l1_filter", ["l1_filter"])], "a method is in the last of its trials"


def test_a_trial_goes_on_where_it_stopped_and_outlives_divergence(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float | None] = []

    def scored(cell: Any, *rest: Any) -> float | None:
        seen.append(cell.budget.learning_rate)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return 0.5 if cell.budget.learning_rate == 0.001 else None

    monkeypatch.setattr(learning_rates, "_score", scored)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "magnitude")
    (half,) = learning_rates.read(tmp_path / "digits" / "digits_cnn" / learning_rates.FILE)
    assert half.scores == {"0.001": 0.5}
    found = run(tmp_path, "magnitude")
    assert seen == [0.001, 0.01, 0.01] and found.scores == {"0.001": 0.5, "0.01": None} and found.chosen == 0.001


def test_families_are_tried_at_the_same_time(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong code that this finds: a trial that writes the file as it was when the trial began."""
    inner = [("l1_filter",), ("sfp", "fpgm")]

    def scored(cell: Any, *rest: Any) -> float:
        if inner:  # other processes do their trials while this one trains
            run(tmp_path, *inner.pop())
        return cell.budget.learning_rate

    monkeypatch.setattr(learning_rates, "_score", scored)
    run(tmp_path, "magnitude", "fpgm")
    found = learning_rates.read(tmp_path / "digits" / "digits_cnn" / learning_rates.FILE)
    assert [one.methods for one in found] == [["l1_filter"], ["magnitude", "fpgm"], ["sfp"]]
    assert all(one.scores == {"0.001": 0.001, "0.01": 0.01} for one in found)


@pytest.mark.parametrize(("better", "more"), [(1, 0.1), (-1, 0.0001), (0, None)])
def test_one_rate_beyond_an_end_is_tried(
    better: int, more: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the best one of the grid is at that end, and only then."""
    monkeypatch.chdir(ROOT)

    def score(cell: Any, *rest: Any) -> float:
        rate: float = cell.budget.learning_rate
        return better * rate if better else -abs(rate - 0.003)

    monkeypatch.setattr(learning_rates, "_score", score)
    found = run(tmp_path, "magnitude")
    assert [*found.scores] == [f"{rate:g}" for rate in (*learning_rates.GRID, *filter(None, [more]))]
    assert found.chosen == (more or 0.003)


def test_training_that_diverges_has_no_score(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_rates, "GRID", (0.001, 1e12))
    assert run(tmp_path, "magnitude").scores["1e+12"] is None
    assert not [*(tmp_path / ".work").glob("rate-*")]


@pytest.mark.parametrize(
    ("keys", "budget", "why"),
    [
        (["svd"], "post-training", "no learning rate to choose at the budget post-training"),
        (["svd"], "paper", "no learning rate to choose at the budget paper"),
        (["uniform", "svd"], "short", "uniform on digits_resnet: has no short recipe"),
        (["svd", "uniform"], "short", "uniform on digits_resnet: has no short recipe"),
        (["svd", "nonsense"], "short", "nonsense"),
    ],
)
def test_what_can_not_be_tried_is_refused_before_anything_runs(
    keys: list[str], budget: str, why: str, few: None
) -> None:
    with pytest.raises(RateBenchError, match=why):
        learning_rates.cell("digits", keys, "digits_resnet", budget)


BUDGETS = "budgets: {post-training: {epochs: 0%s}, short: {epochs: 1%s}}\n"


@pytest.mark.parametrize(
    ("untrained", "trained", "why"),
    [
        ("", ", learning_rates: {digit: {digits_cnn: {magnitude: 0.003}}}", "'digit'"),
        ("", ", learning_rates: {cifar10: {digits_cnn: {magnitude: 0.003}}}", "'cifar10'"),
        ("", ", learning_rates: {digits: {digits_cn: {magnitude: 0.003}}}", "digits_cn"),
        ("", ", learning_rates: {digits: {digits_cnn: {magnitud: 0.003}}}", "magnitud"),
        (
            "",
            ", learning_rates: {digits: {digits_cnn: {uniform: 0.003}}}",
            "uniform has no short recipe, so it has no learning rate",
        ),
        (
            ", learning_rates: {digits: {digits_cnn: {magnitude: 0.003}}}",
            "",
            "post-training: it has no number of epochs",
        ),
    ],
)
def test_rates_without_effect_are_refused(
    untrained: str, trained: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = "own: {task: digits, networks: [digits_cnn], methods: [magnitude], seeds: [0]}\nconfigs: {}\n"
    (tmp_path / "params.yaml").write_text(suite + BUDGETS % (untrained, trained))
    monkeypatch.setattr(params, "PARAMS", tmp_path / "params.yaml")
    params._params.cache_clear()
    try:
        with pytest.raises(RateBenchError, match=why):
            plan.cells("own", budget_name="short")
    finally:
        params._params.cache_clear()


def test_cells_have_the_rate_of_their_network_and_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text(
        "own: {task: digits, networks: [digits_cnn, digits_resnet], methods: [magnitude, l1_filter], seeds: [0]}\n"
        "budgets:\n"
        "  post-training: {epochs: 0}\n"
        "  short: {epochs: 1, learning_rates: {digits: {digits_cnn: {magnitude: 0.003}}}}\n"
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
