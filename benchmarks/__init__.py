"""How compression methods are measured: data, tasks, networks, bitstream, training, evaluation, running, records, report."""
