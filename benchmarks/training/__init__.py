"""Training on resident data: one epoch loop for CPU and GPU."""

from benchmarks.training.batchnorm import reestimate
from benchmarks.training.loop import Recipe, fit

__all__ = ["Recipe", "fit", "reestimate"]
