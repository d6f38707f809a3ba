"""What structured pruning shares: coupled channels, physical surgery, a cost model, and the curve over MACs removed."""

from benchmarks.structured.allocation import filters, highest, remove, shares, uniform
from benchmarks.structured.channels import Group
from benchmarks.structured.curve import Settings, curve, refused
from benchmarks.structured.prunable import Keep, Prunable, analyse

__all__ = [
    "Group",
    "Keep",
    "Prunable",
    "Settings",
    "analyse",
    "curve",
    "filters",
    "highest",
    "refused",
    "remove",
    "shares",
    "uniform",
]
