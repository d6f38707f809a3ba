"""The `ratebench` command. Each subcommand is a few lines that call other modules."""

from __future__ import annotations

import sys

from rich.markup import escape

from benchmarks.cli import cells, code, data, results  # noqa: F401  # they define the commands
from benchmarks.cli.app import app, errors
from benchmarks.errors import RateBenchError


def main() -> None:
    """Run the command. A known error prints one sentence and gives status 1; wrong usage gives 2, an interruption 130."""
    try:
        app()
    except RateBenchError as error:
        errors.print(f"error: {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except SystemExit as end:
        if end.code == 130:  # Typer's status for a KeyboardInterrupt
            errors.print("interrupted: finished records are kept; run the same command again to continue")
        raise
