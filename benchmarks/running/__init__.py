"""From params.yaml to records: the cells of a suite, their dependencies, and their execution."""
