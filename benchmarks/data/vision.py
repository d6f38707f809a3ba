"""Imports torchvision; every module that uses torchvision imports this one first.

Its wheel on the package index is built for the default torch build. With another build its C++ operators are missing, and
the import fails while it registers fake kernels for two of them. Declaring their schemas makes the import work; this
suite never calls them.
"""

from __future__ import annotations

import sys

from torch import library

__fingerprint__ = False  # makes torchvision importable

try:
    from torchvision import datasets
    from torchvision.transforms import v2 as transforms
except RuntimeError as error:
    if "torchvision::nms does not exist" not in str(error):
        raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    for name in ("nms", "qnms"):
        schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(f"torchvision::{name}", schema)
    from torchvision import datasets
    from torchvision.transforms import v2 as transforms

__all__ = ["datasets", "transforms"]
