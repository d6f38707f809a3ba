"""How compression methods are measured: tasks, networks, bitstream, training, runner, records and report."""
