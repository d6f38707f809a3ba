"""The picture that a network draws: networks with a `size` map coordinates of pixels to colours."""

from __future__ import annotations

import io

from PIL import Image
from torch import Tensor, nn

from benchmarks.errors import BitstreamError, RateBenchError, first_line
from benchmarks.evaluation.inference import inference
from benchmarks.networks.sine import coordinates

__fingerprint__ = False  # for readers: scores are taken without rounding


def drawn(network: nn.Module) -> Tensor:
    """uint8 (height, width, 3): colours clipped and rounded.

    Raises RateBenchError for a network that draws no picture, BitstreamError if it can't be run.
    """
    size = getattr(network, "size", None)
    if size is None:
        raise RateBenchError(
            "it holds a network that draws no picture: write its tensors, to a name that ends in .safetensors"
        )
    height, width = size
    try:
        with inference(network):
            colours = network(coordinates(height, width)[None])[0]
    except Exception as error:  # a file may hold any bytes
        msg = f"its picture can't be drawn: {first_line(error)}"
        raise BitstreamError(msg) from error
    return colours.add(1).mul(127.5).round().clamp(0, 255).byte().view(height, width, 3)


def png(network: nn.Module) -> bytes:
    """The same as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(drawn(network).numpy()).save(buffer, "PNG")
    return buffer.getvalue()
