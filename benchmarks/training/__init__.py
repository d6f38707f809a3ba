"""Training: one epoch loop for CPU and GPU, with parameter groups and callbacks."""

from benchmarks.training.callback import Callback
from benchmarks.training.loop import fit
from benchmarks.training.recipe import SGD, AdamW, Cosine, Multistep, Optimise, Recipe, Schedule

__all__ = [
    "SGD",
    "AdamW",
    "Callback",
    "Cosine",
    "Multistep",
    "Optimise",
    "Recipe",
    "Schedule",
    "fit",
]
