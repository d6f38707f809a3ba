"""What tasks of one kind share; each task itself is a file of its own in the folder above."""
