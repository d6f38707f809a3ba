"""Output that can't hold a character, that is closed early, or that can't be written; interruptions at any time."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import test_runner
import torch
from test_runner import Laboratory

from benchmarks.cli import app
from benchmarks.errors import BitstreamError
from benchmarks.evaluation.messages import Wanted
from benchmarks.evaluation.scorer import Scorer

laboratory = test_runner.laboratory
INTERRUPTED = """
import sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "benchmarks.cli.cells":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from benchmarks import cli
cli.main()
"""


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_characters_that_the_output_cannot_hold_are_replaced(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Wrong code that this finds: strict streams, with which the first → or … ends the command with a traceback."""
    caution = "Easier \N{LEFTWARDS ARROW} images."
    suite = {"task": "digits", "networks": ["digits_cnn"], "methods": ["tiny"], "seeds": [0], "caution": caution}
    laboratory.configure({"points": 1}, digits=suite)
    laboratory.run()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert laboratory.ratebench("show", "digits") == 0
    assert laboratory.ratebench("decode", "\N{RIGHTWARDS ARROW}.rbn") == 1
    sys.stderr.flush()
    shown, complaint = (stream.buffer.getvalue().decode(encoding) for stream in (sys.stdout, sys.stderr))  # type: ignore[attr-defined]
    assert "Easier ? images." in shown and complaint == "error: there is no file ?.rbn\n"


def test_a_full_output_is_one_sentence(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert laboratory.ratebench("methods") == 1
    assert capsys.readouterr().err == "error: can't write the output: No space left on device\n"


def test_a_pipe_that_is_closed_early_is_quiet(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app.console, "quiet", False)  # rich sets this for good when the pipe is closed
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert laboratory.ratebench("methods") == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_stream_that_the_caller_has_closed_is_no_error(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, name, None)
    assert laboratory.ratebench("methods") == 0


def test_an_interruption_while_libraries_are_imported_is_no_traceback() -> None:
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED, "methods"], capture_output=True, text=True)
    assert ended.returncode == 130 and not ended.stdout
    assert ended.stderr == "interrupted: finished records are kept; run the same command again to continue\n"


def test_the_process_that_scores_speaks_utf8_whatever_the_terminal_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Wrong code that this finds: pipes in the encoding of the terminal, with which the process dies of the name of a file."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with (
        Scorer("digits", "digits_cnn", torch.device("cpu")) as scorer,
        pytest.raises(BitstreamError, match="→é"),
    ):
        scorer.score(Wanted(str(tmp_path / "→é.rbn"), None, 0, 1))
