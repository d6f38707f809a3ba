"""`python -m benchmarks.cli` is `ratebench`."""

from benchmarks.cli import main

main()
