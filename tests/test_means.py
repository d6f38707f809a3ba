"""Means over the networks of a suite: which rows there are, what they say, and how the page shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from browsing import Open
from invented import PSNR, averaged, invent_task, made, reference, scored_curve, store

from benchmarks import records as recorded
from benchmarks.evaluation import metrics
from benchmarks.fingerprint import ROOT
from benchmarks.records import Record, paired
from benchmarks.records.items import pack
from benchmarks.records.rows import aggregate, means, references
from benchmarks.records.schema import ITEMS
from benchmarks.report import render
from benchmarks.running import params

pytest_plugins = ["chromium"]
NETWORKS, NAME = ["one", "two"], "mean of 2 networks"


def both(index: int, sizes: tuple[int, int], correct: tuple[int, int], method: str = "alpha") -> list[Record]:
    """A point of a method on both networks."""
    return [
        made(method, index=index, network=network, file_bytes=size, correct=right)
        for network, size, right in zip(NETWORKS, sizes, correct, strict=True)
    ]


def test_a_mean_is_that_of_all_networks_at_the_same_point() -> None:
    """Wrong code that this finds: a mean over the networks that happen to have a record, or over different points."""
    known = [*both(0, (9000, 7000), (900, 800)), *both(1, (5000, 4000), (700, 600)), made(index=2, network="one")]
    rows = [*means(aggregate([*known, *map(reference, NETWORKS)]), NETWORKS, NAME)]
    assert [row.key for row in rows] == [
        f"{NAME}/{row.first.method}/{row.first.config_hash}-post-training/p0{index}"
        for row, index in zip(rows, (0, 1, 0), strict=True)
    ]
    first, second, whole = rows
    assert {row.network for row in rows} == {NAME} and [r.network for r in first.records] == NETWORKS
    assert (first.file_bytes.mean, second.file_bytes.mean) == (8000, 4500)
    assert [first.quality.value, second.quality.value] == pytest.approx([85, 65]) and first.ratio == 40_000 / 8000
    assert references(rows) == {NAME: whole}
    assert [*means(aggregate(known), [], "")] == [] == [*means(aggregate(known), [*NETWORKS, "three"], NAME)]


def test_pictures_are_compared_picture_by_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each network has one item: the mean over 24 is compared by the differences on each, however different the pictures."""
    invent_task(monkeypatch, "pictures", PSNR)
    random = np.random.default_rng(0)
    names = [f"photograph{number:02d}" for number in range(24)]
    levels = random.normal(30, 5, 24)
    scores = {"alpha": levels, "beta": levels - random.normal(0.3, 0.1, 24), "gamma": levels + random.normal(0, 1, 24)}
    rows = {}
    for method, values in scores.items():
        known = []
        for network, value in zip(names, values, strict=True):
            (record,) = scored_curve(
                method, "pictures", [9000], [{"psnr": averaged(PSNR, [float(value)])}], network=network
            )
            record.provenance.data[ITEMS] = f"sha256:{network[-2:] * 32}"
            store(tmp_path, [record])
            (tmp_path / f"{record.id}.items").write_bytes(pack(PSNR, torch.tensor([value])))
            known.append(record)
        (rows[method],) = means(aggregate(known), names, "mean of 24 photographs")
    sides = {method: paired.side(tmp_path, row) for method, row in rows.items()}
    alpha, beta, gamma = (sides[method] for method in scores)
    assert alpha is not None and beta is not None and gamma is not None
    assert alpha.values == pytest.approx(levels, rel=1e-6) and alpha.between == 0 and alpha.of == beta.of
    assert paired.significant([alpha, beta, gamma]).tolist() == [
        [False, True, False],
        [True, False, False],
        [False] * 3,
    ]
    assert paired.apart(rows["alpha"]) == 23  # without items: 24 photographs, not a single value
    low, high = rows["alpha"].quality.interval
    half = metrics.Z95 * levels.std(ddof=1) / 24**0.5
    assert (low, high) == pytest.approx((levels.mean() - half, levels.mean() + half), rel=1e-6)


@pytest.fixture
def page_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(params, "averaged", lambda suite: (NETWORKS, NAME))
    known = [
        *both(0, (9000, 7000), (949, 945)),
        *both(1, (3000, 2000), (900, 890)),
        *both(0, (12_000, 8000), (948, 940), "beta"),
    ]
    return render("invented", store(tmp_path / "results", [*known, *map(reference, NETWORKS)]), tmp_path / "reports")


def test_the_page_begins_with_the_mean(opened: Open, page_of_two: Path) -> None:
    page = opened(page_of_two)
    assert page.evaluate("page.networks.map(network => network.name)") == [NAME, *NETWORKS]
    assert page.evaluate("state.network") == NAME
    shown = page.evaluate(
        "page.rows.filter(row => row.line.network === state.network && row.line.method === 'alpha')"
        ".map(row => [value(row, 'bytes'), value(row, 'quality')])"
    )
    assert shown == [[8000, pytest.approx(94.7)], [2500, pytest.approx(89.5)]]
    assert page.inner_text(".facts").startswith("8 operating points from 8 records · 3 methods · 2 networks")
    assert page.evaluate("document.querySelectorAll('#at-quality thead th').length") == page.evaluate(
        "document.querySelectorAll('#at-quality tbody tr:first-child > *').length"
    )
    answers = page.locator(".answers tbody th").all_inner_texts()
    assert answers == [NAME]  # it answers for both
    page.locator("#rows tbody tr[data-key*=alpha] .open >> nth=0").click()
    page.locator("tr.drawer table").wait_for()
    assert page.locator("tr.drawer thead th").all_inner_texts() == NETWORKS
    assert "No log was kept of one's run." in page.locator("tr.drawer").inner_text()
    assert opened(page_of_two, page.evaluate("location.hash")).locator("tr.drawer").count() == 1


def test_the_means_of_california_are_those_of_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the committed records: the mean squared error of twenty networks, and the spread between them."""
    monkeypatch.chdir(ROOT)
    networks, name = params.averaged("california")
    assert (len(networks), name) == (20, "mean of 20 networks")
    rows = [*means(aggregate(recorded.load(ROOT / "results", "california")), networks, name)]
    assert len(rows) > 20
    for row in rows:
        values = np.array([r.quality.value for r in row.records])
        assert len(values) == 20 and row.quality.value == pytest.approx(values.mean())
        assert row.quality.standard_error >= values.std(ddof=1) / 20**0.5
    assert params.averaged("cifar10") == ([], "") == params.averaged("no suite")
