"""Code that low-rank methods share: layers by stage, factorised convolutions, and the curve over rates."""

from methods.families.lowrank.curve import Settings, curve, unsupported, weights
from methods.families.lowrank.layers import Group, base_rank, groups

__all__ = ["Group", "Settings", "base_rank", "curve", "groups", "unsupported", "weights"]
