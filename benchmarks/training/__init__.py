"""Training and evaluation of classifiers on resident data: one epoch loop for CPU and GPU."""

from benchmarks.evaluation.scoring import total_score
from benchmarks.training.batchnorm import reestimate
from benchmarks.training.loop import Recipe, fit

__all__ = ["Recipe", "correct_predictions", "fit", "reestimate"]
