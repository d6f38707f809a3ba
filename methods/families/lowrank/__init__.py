"""What low-rank methods share: layers by stage, convolutions as products of thin ones, and the curve over rates."""

from methods.families.lowrank.curve import Factorised, Settings, curve, realise, unsupported, weights
from methods.families.lowrank.layers import Group, base_rank, groups

__all__ = ["Factorised", "Group", "Settings", "base_rank", "curve", "groups", "realise", "unsupported", "weights"]
