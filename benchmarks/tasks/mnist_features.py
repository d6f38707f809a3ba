"""`mnist_features`: the ten classes of MNIST, and networks of three random layers (Gu et al., NeurIPS 2022, Figure 3).

50,000 official training images are for training and 10,000 for validation. The paper has 50,000 for training and 8,000 test
images, which it scales by their own statistics.
"""

from __future__ import annotations

from benchmarks.tasks.kinds import mnist_classes

HIDDEN = ((1500, 1500, 1500), (5000, 5000, 2000), (5000, 5000, 5000), (10_000, 10_000, 5000))
FAMILY = mnist_classes.family("mnist_features", range(10), (50_000, 10_000), HIDDEN)
METRICS, ITEMS, NETWORKS = FAMILY.metrics, FAMILY.items, FAMILY.networks
task, test, files, provenance = FAMILY.task, FAMILY.test, FAMILY.files, FAMILY.provenance
trainable, cached_reference = FAMILY.trainable, FAMILY.cached_reference
