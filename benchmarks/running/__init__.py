"""From params.yaml to records: which cells there are, what they depend on, and running them."""
