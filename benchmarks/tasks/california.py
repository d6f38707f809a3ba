"""`california`: median house values of 20,640 districts from 8 features (Pace and Barry 1997), a regression.

The features are those of scikit-learn's `fetch_california_housing`, formed from the official table; the target is in 100,000
dollars. A fixed seed draws the items for test (20 %) and validation (10 %). The references are trained on this machine: twenty
networks of the same shape from different initial weights, over which results are averaged.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from benchmarks import storage
from benchmarks.data import download, unpacking
from benchmarks.data.download import RemoteFile
from benchmarks.errors import TaskError
from benchmarks.tasks.kinds import trained
from benchmarks.tasks.kinds.classification import cut
from benchmarks.tasks.kinds.regression import Regression, RegressionTest, squared_error
from methods.interface import Augmentation, Split

SIZES = (14_448, 2_064, 4_128)  # train, validation, test
ITEMS = (SIZES[0], SIZES[2])
METRICS = squared_error("(100 k$)²", 4, "Squared error of the predicted median value of a district's houses")
ARGUMENTS = {"widths": [8, 100, 100, 100, 100, 1]}
NETWORKS = dict.fromkeys((f"mlp_{seed:02d}" for seed in range(20)), ARGUMENTS)
# Of the training items: of each feature, and of the target.
MEAN = (3.85617, 28.6066, 5.41135, 1.09508, 1428.25, 3.08521, 35.6341, -119.577)
STD = (1.88258, 12.6016, 2.3684, 0.460024, 1137.5, 11.3576, 2.13276, 1.99808)
CENTRE, SPREAD = 2.0668, 1.1512
# Of the table's values, as fp64 in its own order: whether its last line ends in a newline differs between copies.
SHA256 = "a2f4f55ff91c67e60391318ea4d61d247d09f8fef119ec6f44a1eb727d7f1f7b"
ARCHIVE = RemoteFile(
    "cal_housing.tgz",
    "https://ndownloader.figshare.com/files/5976036",
    "sha256:aaa5c9a6afe2225cc2aed2723682ae403280c4a3695a2ddda4ffb5d8215ea681",
)
MEMBER = "CaliforniaHousing/cal_housing.data"
# The table inside the archive, for mirrors that hold it unpacked.
TABLE = RemoteFile(
    "california/cal_housing.data", "", "sha256:d3d8a1a722ae78f91134862727d27a70b1415e7d512a89140406248687f4b902"
)


def _source() -> RemoteFile:
    """The archive, or the table alone where the cache or a mirror's folder holds that."""
    mirror = os.environ.get("RATEBENCH_MIRROR", "")
    folders = [storage.cache_folder(), *([storage.expanded(mirror, "RATEBENCH_MIRROR")] if mirror else [])]
    return TABLE if any((folder / TABLE.name).is_file() for folder in folders) else ARCHIVE


def _text() -> tuple[str, bytes]:
    """Where the official table is, and its content."""
    source = _source()
    file = download.fetch(source)
    if source is ARCHIVE:
        with unpacking.opened(file, file) as tar:
            members = unpacking.members(tar, file, download.LARGEST, flat=False)
            if MEMBER not in members:
                msg = f"{file} does not hold {MEMBER}: it is not the archive that the task needs"
                raise TaskError(msg)
            found = tar.extractfile(members[MEMBER])
            assert found is not None  # a regular file
            return str(file), found.read()
    return str(file), storage.read(file)


def table(data: bytes, source: str) -> np.ndarray:
    """The official table (20,640 × 9) in fp64; raises TaskError for any other."""
    rows = sum(SIZES)
    try:
        values = np.loadtxt(io.BytesIO(data), delimiter=",", ndmin=2)
    except ValueError as error:
        msg = f"{source} is no table of numbers ({error}): fetch it again"
        raise TaskError(msg) from error
    if values.shape != (rows, 9):
        msg = f"{source} has {values.shape[0]:,} rows of {values.shape[1]} columns, not {rows:,} of 9: fetch it again"
        raise TaskError(msg)
    if (wrong := np.argwhere(~np.isfinite(values))).size:
        msg = f"{source} has a value that is no finite number in row {wrong[0][0] + 1:,}: fetch it again"
        raise TaskError(msg)
    if hashlib.sha256(values.tobytes()).hexdigest() != SHA256:
        msg = f"{source} has other values than the official table: fetch it again"
        raise TaskError(msg)
    return values


@functools.cache
def _splits() -> list[Split]:
    source, data = _text()
    longitude, latitude, age, rooms, bedrooms, people, households, income, value = table(data, source).T
    columns = (income, age, rooms / households, bedrooms / households, people, people / households, latitude, longitude)
    inputs = torch.from_numpy(np.stack(columns, axis=1)).float()
    return cut(inputs, torch.from_numpy(value[:, None] / 100_000).float(), *SIZES)


def task(network: str) -> Regression:
    """The task as a method sees it."""
    return Regression(
        name="california",
        network=network,
        architecture="mlp",
        arguments=NETWORKS[network],
        metrics=METRICS,
        mean=MEAN,
        std=STD,
        centre=CENTRE,
        spread=SPREAD,
        augmentation=Augmentation(),
        load_splits=lambda: (_splits()[0], _splits()[1]),
        load_state=lambda: trained.state("california", network),
    )


def test(network: str) -> RegressionTest:
    return RegressionTest(task(network), test_split, ITEMS[1])


def files(network: str | None = None) -> list[RemoteFile]:
    return [_source()]


def provenance(network: str) -> dict[str, str]:
    return {"data": f"sha256:{SHA256}", **trained.PROVENANCE}


def cached_reference(network: str) -> Mapping[str, Tensor] | None:
    return trained.cached("california", network)


@functools.cache
def test_split() -> Split:
    return _splits()[2]
