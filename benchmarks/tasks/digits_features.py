"""`digits_features`: the embedded `digits` for a network of three random layers whose read-out alone is trained."""

from __future__ import annotations

from benchmarks.tasks import digits
from benchmarks.tasks.kinds.random_features import Family
from methods.interface import Split


def _load() -> tuple[Split, Split]:
    train, validation, _ = digits._splits()
    return train, validation


FAMILY = Family(
    "digits_features",
    (1, 8, 8),
    10,
    ((500, 500, 500),),
    digits.ITEMS,
    _load,
    digits.test_split,
    origin="scikit-learn load_digits",
    seeds=1,
)
METRICS, ITEMS, NETWORKS = FAMILY.metrics, FAMILY.items, FAMILY.networks
task, test, files, provenance = FAMILY.task, FAMILY.test, FAMILY.files, FAMILY.provenance
trainable, cached_reference = FAMILY.trainable, FAMILY.cached_reference
