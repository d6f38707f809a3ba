"""From params.yaml to records: the cells of a suite, what they depend on, and running them."""
