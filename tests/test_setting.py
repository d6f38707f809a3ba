"""In what this suite's setting differs from a paper's, in words. Every number here is invented."""

from __future__ import annotations

from typing import Any

import pytest
from invented import made

from benchmarks.papers.claims import Setting
from benchmarks.papers.setting import differences
from benchmarks.records.rows import aggregate

ALIKE: dict[str, Any] = {
    "tasks": ["digits"],
    "networks": ["net"],
    "budget": "post-training",
    "config": {"mode": "plain"},
}


@pytest.mark.parametrize(
    ("paper", "said"),
    [
        ({}, ()),
        ({"tasks": ["imagenet"]}, ("task: digits (paper: imagenet)",)),
        ({"tasks": ["digits", "imagenet"], "networks": ["net", "vgg"]}, ()),
        ({"networks": ["vgg", "net18"]}, ("network: net (paper: vgg, net18)",)),
        ({"networks": []}, ("network: net (paper: not known)",)),
        ({"budget": "paper"}, ("training: post-training (paper: its own schedule)",)),
        ({"budget": ""}, ("training: post-training (paper: not known)",)),
        ({"config": {"mode": "fine"}}, ("mode: plain (paper: fine)",)),
        ({"config": {"absent": 1}}, ()),
        ({"config": {"steps": 3.0}}, ()),
    ],
)
def test_each_difference_is_said(paper: dict[str, Any], said: tuple[str, ...]) -> None:
    rows = aggregate([made(fidelity="paper"), made("beta", fidelity="baseline", config={"bits": 5})])
    assert differences(Setting(**{**ALIKE, **paper}), rows) == said


def test_all_rows_count_and_each_value_is_said_once() -> None:
    rows = aggregate(
        [
            made(network="a", budget="short", epochs=2.5),
            made("beta", network="b", budget="short", epochs=2.5, fidelity="baseline", config={"mode": "other"}),
        ]
    )
    assert differences(Setting(**{**ALIKE, "budget": "paper"}), rows) == (
        "reconstruction",
        "network: a, b (paper: net)",
        "training: short, 2.5 epochs (paper: its own schedule)",
        "mode: other (paper: plain)",
    )
    assert differences(Setting(), rows) == ("reconstruction", "setting of the paper: not known")
    assert differences(Setting(), []) == ()
