"""`mnist_0_4`: the digits 0 to 4 of MNIST, and networks of three random layers (Gu et al., NeurIPS 2022, Figure 4).

25,000 of 30,596 official training images are for training, the others for validation. The paper's numbers are not known.
"""

from __future__ import annotations

from benchmarks.tasks.kinds import mnist_classes

HIDDEN = ((1500, 1500, 1500), (5000, 5000, 2000), (5000, 5000, 5000), (10_000, 10_000, 5000))
FAMILY = mnist_classes.family("mnist_0_4", range(5), (25_000, 5_139), HIDDEN)
METRICS, ITEMS, NETWORKS = FAMILY.metrics, FAMILY.items, FAMILY.networks
task, test, files, provenance = FAMILY.task, FAMILY.test, FAMILY.files, FAMILY.provenance
trainable, cached_reference = FAMILY.trainable, FAMILY.cached_reference
