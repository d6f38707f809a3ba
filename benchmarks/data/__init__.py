"""Getting data: downloads, images on disk, ILSVRC2012, and torchvision's readers."""
