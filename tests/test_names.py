"""Names of configurations in params.yaml: readers see them, results do not depend on them."""

from __future__ import annotations

from typing import Any

import pytest
import test_runner
import yaml
from invented import Page, made, store
from test_runner import Laboratory

from benchmarks.configuration import config_hash
from benchmarks.errors import MethodError
from benchmarks.fingerprint import ROOT
from benchmarks.records import described
from benchmarks.report import names, render
from benchmarks.running import params, plan

laboratory = test_runner.laboratory


@pytest.fixture(autouse=True)
def _no_methods_of_other_tests() -> None:
    described._method.cache_clear()
    described.defaults.cache_clear()


def test_no_cell_depends_on_a_name(laboratory: Laboratory) -> None:
    """Wrong code that this finds: a name among the settings, or in what `run` takes for the first configuration."""
    laboratory.configure({}, {"points": 2})
    before = [(cell.id, cell.fingerprint()) for cell in laboratory.cells()]
    laboratory.configure({"name": "as published"}, {"name": "two, no more", "points": 2})
    assert [(cell.id, cell.fingerprint()) for cell in plan.cells("digits")] == before
    assert all("name" not in config for config in params.configs("digits", "tiny", "post-training"))


def test_a_name_is_found_by_the_settings_that_it_stands_for(laboratory: Laboratory) -> None:
    """Wrong code that this finds: names by position, and names of one budget at another."""
    laboratory.configure(
        configs={
            "post-training": {"tiny": [{"name": "usual"}, {"points": 2}]},
            "short": {"tiny": [{"name": "two", "points": 2}]},
        }
    )

    def called(config: dict[str, Any], **changes: Any) -> str:
        known = params.defaults("tiny")
        record = made("tiny", config=known | config, config_hash=config_hash(config), **{"suite": "digits", **changes})
        return names.config(record)

    assert called({}) == "usual"
    assert called({"points": 2}) == "points=2"  # without a name, and the name is that of another budget
    assert called({"points": 2}, budget="short", epochs=1) == "two"
    assert called({"points": 2}, budget="short", epochs=1, suite="gone") == "points=2"
    assert [names.config(cell) for cell in plan.cells("digits", budget_name="short")] == ["two"]
    (laboratory.folder / "params.yaml").unlink()
    params._params.cache_clear()
    assert called({}) == "default"


def test_the_page_and_its_figures_use_the_name(laboratory: Laboratory) -> None:
    """Wrong code that this finds: settings in one of the four places, or settings that can no longer be searched for."""
    laboratory.configure({"name": "ten, <fast>", "points": 2})
    known = made(
        "tiny", suite="digits", config=params.defaults("tiny") | {"points": 2}, config_hash=config_hash({"points": 2})
    )
    path = render("digits", store(laboratory.results, [known]), laboratory.folder / "reports")
    page = Page(path)
    place = [column["key"] for column in page.data["columns"]]
    texts = page.data["rows"][0]["texts"]
    assert texts[place.index("config")] == "ten, <fast>" and texts[place.index("settings")] == "points=2"
    assert page.data["lines"][0]["name"] == "tiny · ten, <fast> · post-training [reconstruction]"
    assert "," not in page.data["lines"][0]["id"]
    assert "ten,%20%3Cfast%3E" in page.text or "ten, %26lt;fast%26gt;" in page.text  # the legend of the figure
    assert "points=2" not in page.text


def test_a_method_has_no_setting_called_name(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "defaults", lambda key: {"name": "", "points": 2})
    with pytest.raises(MethodError, match="has a setting 'name', which"):
        params.configs("digits", "tiny", "post-training")


@pytest.mark.parametrize("suite", ["digits", "cifar10", "imagenet", "imagenet-sample"])
def test_every_configuration_that_is_listed_has_a_name(suite: str) -> None:
    """Read from the file itself: what the suite lists for its methods, else what all suites share."""
    whole = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for budget in whole[suite].get("budgets", ["post-training"]):
        own, shared = (part.get(budget, {}) for part in (whole[suite].get("configs", {}), whole["configs"]))
        for method in whole[suite]["methods"]:
            entries = own.get(method) or shared.get(method) or []
            assert all(entry.get("name") for entry in entries), (budget, method, entries)
