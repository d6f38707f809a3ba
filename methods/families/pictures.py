"""Image codecs of Pillow as methods: the picture itself is compressed, no network."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
from msgspec import Meta
from PIL import Image, features

from benchmarks.bitstream.codecs import verbatim
from benchmarks.networks.picture import FORMS
from methods.families.limits import check_order
from methods.interface import Budget, Compressed, Json, Task

Quality: TypeAlias = Annotated[int, Meta(ge=0, le=100)]
FEATURES = {"jpeg": "jpg", "jpeg2000": "jpg_2000", "webp": "webp", "avif": "avif"}  # what Pillow calls them


@dataclass(frozen=True)
class Qualities:
    """One point for each of `qualities`, on the encoder's own scale, the best one first."""

    qualities: tuple[Quality, ...]

    def __post_init__(self) -> None:
        check_order("qualities", self.qualities, rising=False)

    def operating_points(self, budget: Budget) -> list[float]:
        return [0.0] * len(self.qualities)


def unsupported(form: str) -> str | None:
    """A sentence if this Pillow was built without the codec."""
    if features.check(FEATURES[form]):
        return None
    return f"Pillow has no {form} here: install a build of Pillow that has it"


def compressed(
    task: Task, form: str, points: list[tuple[Mapping[str, Json], Mapping[str, Any]]]
) -> Iterator[Compressed]:
    """One point for each (label, settings of Pillow's `save`)."""
    height, width = (int(n) for n in task.arguments["size"])  # type: ignore[union-attr, misc, arg-type]
    image = Image.fromarray(task.train.targets.view(height, width, 3).numpy().astype(np.uint8))
    for label, settings in points:
        buffer = io.BytesIO()
        image.save(buffer, FORMS[form], **settings)
        data = buffer.getvalue()
        arguments = {"form": form, "size": [height, width], "length": len(data)}
        yield Compressed("picture", arguments, (verbatim.part("data", data),), label)
