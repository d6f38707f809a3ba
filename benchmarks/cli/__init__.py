"""The `ratebench` command. Each subcommand is a few lines that call other modules."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from benchmarks.errors import RateBenchError, in_short

INTERRUPTED = 130


def main() -> None:
    """Run the command. A known error prints one sentence and gives status 1; wrong usage gives 2, an interruption 130.

    Characters that the output can't hold are replaced. A pipe that is closed early ends the command without a word.
    """
    _prepare_streams()
    try:
        status = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except RateBenchError as error:
        status = _fail(str(error))
    except BrokenPipeError:
        status = 1
        _drop_output()
    except OSError as error:
        status = _fail(f"can't write {error.filename or 'the output'}: {error.strerror or error}")
        _drop_output()
    if status == INTERRUPTED:
        print("interrupted: finished records are kept; run the same command again to continue", file=sys.stderr)
    sys.exit(status)


def _run() -> int | str | None:
    """The status of the command. Imports the libraries here, so that nothing is outside of the reach of `main`."""
    try:
        from benchmarks.cli import cells, code, data, results  # noqa: F401  # they define the commands
        from benchmarks.cli.app import app
    except (ImportError, OSError) as error:
        msg = f"a library of RateBench can't be imported: {in_short(error)}: install RateBench again, e.g. with `nox -s tests`"
        raise RateBenchError(msg) from error
    try:
        app()
    except SystemExit as end:  # Typer's way to end; its status for a KeyboardInterrupt is INTERRUPTED
        return end.code
    return 0


def _fail(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _drop_output() -> None:
    """Let Python not try again, when it ends, to write what can't be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
