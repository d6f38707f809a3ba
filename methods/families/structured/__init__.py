"""Code that structured methods share: coupled channels, surgery, a cost model, and the curve over MACs removed."""

from methods.families.structured.allocation import filters, highest, remove, same_share, shares
from methods.families.structured.channels import Group
from methods.families.structured.curve import Settings, curve
from methods.families.structured.prunable import Keep, Prunable, analyse

__all__ = [
    "Group",
    "Keep",
    "Prunable",
    "Settings",
    "analyse",
    "curve",
    "filters",
    "highest",
    "remove",
    "same_share",
    "shares",
]
