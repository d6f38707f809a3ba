"""A picture that another codec has compressed, in the form of a network: coordinates of pixels to colours.

The compressed bytes are the network's only tensor. They are decoded when it is run.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from benchmarks.errors import first_line

FORMS = {"jpeg": "JPEG", "jpeg2000": "JPEG2000", "webp": "WEBP", "avif": "AVIF"}  # names here and in Pillow
MOST_SIDE, MOST_PIXELS, MOST_BYTES = 2**13, 2**24, 2**26


class CodedPicture(nn.Module):
    """Input (N, P, 2) in [−1, 1], row first; output (N, P, 3), where −1 is no light: the colour of the nearest pixel.

    `size` is (height, width) in pixels, `form` the codec and `length` the number of its bytes. Running it raises ValueError if
    the bytes are no picture of this form and size in RGB.
    """

    def __init__(self, form: str, size: tuple[int, int], length: int) -> None:
        super().__init__()
        self.form, self.size = form, size
        self.register_buffer("data", torch.empty(length, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        colours = torch.from_numpy(self._decoded()).to(x.device).movedim(-1, 0)[None].float() / 127.5 - 1
        places = (
            x[:1] if torch.equal(x, x[:1].expand_as(x)) else x
        )  # the items of a batch have the same pixels as a rule
        column_first = places.flip(-1)[:, :, None]
        found = F.grid_sample(colours.expand(len(places), -1, -1, -1), column_first, "nearest", align_corners=True)
        return found[..., 0].mT.expand(len(x), -1, -1)

    def _decoded(self) -> npt.NDArray[np.uint8]:
        """uint8 (height, width, 3)."""
        file = io.BytesIO(self.get_buffer("data").cpu().numpy().tobytes())
        try:
            with Image.open(file, formats=[FORMS[self.form]]) as image:
                if (image.height, image.width) == self.size and image.mode == "RGB":
                    return np.array(image)
                found = f"of {image.width} × {image.height} pixels in mode {image.mode}"
        except Exception as error:  # Pillow raises anything for damaged bytes
            msg = f"its bytes are no valid {self.form} picture ({first_line(error)}): the file is damaged"
            raise ValueError(msg) from error
        msg = f"its picture is {found}, not {self.size[1]} × {self.size[0]} in RGB as the file says: it is damaged"
        raise ValueError(msg)


def picture(form: str, size: Sequence[int], length: int) -> CodedPicture:
    """`form` is a key of FORMS, `size` the picture's (height, width), `length` the number of compressed bytes."""
    if form not in FORMS:
        msg = f"form has to be one of {', '.join(FORMS)}"
        raise ValueError(msg)
    whole = (
        isinstance(size, list | tuple) and len(size) == 2 and all(type(n) is int and 1 <= n <= MOST_SIDE for n in size)
    )
    if not whole or size[0] * size[1] > MOST_PIXELS:
        msg = f"size has to be two whole numbers between 1 and {MOST_SIDE}, with a product of at most {MOST_PIXELS}"
        raise ValueError(msg)
    if type(length) is not int or not 1 <= length <= MOST_BYTES:
        msg = f"length has to be a whole number between 1 and {MOST_BYTES}"
        raise ValueError(msg)
    return CodedPicture(form, (size[0], size[1]), length)
