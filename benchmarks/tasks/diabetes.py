"""`diabetes`: how far the disease of 442 patients progresses within a year, from ten measurements (Efron et al. 2004).

The data set ships with scikit-learn: a regression without downloads. A fixed seed draws the items for test and validation.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor

from benchmarks.data.download import RemoteFile
from benchmarks.tasks.kinds import trained
from benchmarks.tasks.kinds.classification import cut
from benchmarks.tasks.kinds.regression import Regression, RegressionTest, squared_error
from methods.interface import Augmentation, Split

SIZES = (282, 60, 100)  # train, validation, test
ITEMS = (SIZES[0], SIZES[2])
METRICS = squared_error("", 0, "Squared error of the predicted progression, a score between 25 and 346")
NETWORKS = {"mlp": {"widths": [10, 32, 32, 1]}}
DEVIATION = 442**-0.5  # scikit-learn's columns have mean 0 and the sum of squares 1
CENTRE, SPREAD = 152.0, 77.0  # of the target


@functools.cache
def _splits() -> list[Split]:
    inputs, targets = load_diabetes(return_X_y=True)
    return cut(torch.from_numpy(inputs).float(), torch.from_numpy(targets[:, None]).float(), *SIZES)


def task(network: str) -> Regression:
    """The task as a method sees it."""
    return Regression(
        name="diabetes",
        network=network,
        architecture="mlp",
        arguments=NETWORKS[network],
        metrics=METRICS,
        mean=(0.0,) * 10,
        std=(DEVIATION,) * 10,
        centre=CENTRE,
        spread=SPREAD,
        augmentation=Augmentation(),
        load_splits=lambda: (_splits()[0], _splits()[1]),
        load_state=lambda: trained.state("diabetes", network),
    )


def test(network: str) -> RegressionTest:
    return RegressionTest(task(network), test_split, ITEMS[1])


def files(network: str | None = None) -> list[RemoteFile]:
    return []


def provenance(network: str) -> dict[str, str]:
    return {"data": "scikit-learn load_diabetes", **trained.PROVENANCE}


def cached_reference(network: str) -> Mapping[str, Tensor] | None:
    return trained.cached("diabetes", network)


def test_split() -> Split:
    return _splits()[2]
