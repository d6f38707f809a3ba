"""Which records were measured with the reference that this machine now has. Downloaded references are pinned by a hash."""

from __future__ import annotations

import re
from collections.abc import Mapping

from benchmarks import tasks
from benchmarks.records import Record
from benchmarks.records.schema import REFERENCE
from benchmarks.running.contents import reference_hash, tensors_hash

_PINNED = re.compile(r"(md5|sha256):[0-9a-f]+")


def required(task: str, network: str) -> dict[str, str] | None:
    """The entries of `Provenance.data` without which a record is not valid; empty if the fingerprint pins the reference.

    None if the reference is to be trained on this machine and is not yet.
    """
    if not trained_here(task, network):
        return {}
    module = tasks.get(task)
    if not hasattr(module, "cached_reference"):
        return with_reference(task, network, reference_hash(tasks.load(task, network)))
    known = module.cached_reference(network)
    return None if known is None else {REFERENCE: tensors_hash(known)}


def with_reference(task: str, network: str, known: str | None) -> dict[str, str]:
    """The same for a reference with a known hash."""
    return {REFERENCE: known} if known is not None and trained_here(task, network) else {}


def trained_here(task: str, network: str) -> bool:
    """Whether a task has a reference that no hash pins."""
    said = tasks.get(task).provenance(network).get("reference", "")
    return bool(tasks.load(task, network).architecture) and not _PINNED.fullmatch(said)


def holds(known: Record, entries: Mapping[str, str]) -> bool:
    """Whether a record has all of these entries of `Provenance.data`."""
    return entries.items() <= known.provenance.data.items()
