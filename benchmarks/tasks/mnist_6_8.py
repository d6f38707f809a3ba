"""`mnist_6_8`: the digits 6 and 8 of MNIST, and networks of three random layers (Gu et al., NeurIPS 2022, Figure 4).

10,000 of 11,769 official training images are for training, the others for validation. The paper's numbers are not known; its
code has 10,000 for training.
"""

from __future__ import annotations

from benchmarks.tasks.kinds import mnist_classes

HIDDEN = tuple((width,) * 3 for width in (500, 1000, 1500, 2000, 2500))
FAMILY = mnist_classes.family("mnist_6_8", (6, 8), (10_000, 1_932), HIDDEN)
METRICS, ITEMS, NETWORKS = FAMILY.metrics, FAMILY.items, FAMILY.networks
task, test, files, provenance = FAMILY.task, FAMILY.test, FAMILY.files, FAMILY.provenance
trainable, cached_reference = FAMILY.trainable, FAMILY.cached_reference
