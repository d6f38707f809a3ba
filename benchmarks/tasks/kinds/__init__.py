"""Code that tasks of one kind share; each task is one file in the parent folder."""
