"""The description of a whole network, from the parts with its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from benchmarks.bitstream.codecs import index
from methods.families.norms import norm_parts
from methods.families.slim import Slim
from methods.families.storage import tensors
from methods.interface import Compressed, Json, Part, Task


@torch.no_grad()
def describe(
    task: Task,
    network: nn.Module,
    slim: Slim,
    coded: Sequence[Part],
    point: Mapping[str, Json],
    notes: Mapping[str, Json] | None = None,
) -> Compressed:
    """Describe the network: `coded` parts, all other integer tensors as indices, and BatchNorm and biases in fp16."""
    filled = {target for part in coded for target in part.targets}
    rest = {name: values for name, values in tensors(network, slim.tied).items() if name not in filled}
    order = [*slim.tensors, *rest]  # integer tensors in the order in which the method gives them
    places = {name: rest[name] for name in order if name in rest and rest[name].dtype == np.int64}
    parts = [*coded, *norm_parts(network, {name: values for name, values in rest.items() if name not in places})]
    if places:
        limit = 1 + max(int(values.max()) for values in places.values())
        parts.append(index.part(list(places), list(places.values()), limit))
    return Compressed(
        task.architecture, task.arguments, tuple(parts), point, slim.edits, slim.tied, notes=dict(notes or {})
    )
