"""Access to data: downloads, images on disk, ILSVRC2012, and torchvision's readers."""
