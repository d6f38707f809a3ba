"""Printed tables: ids and numbers are whole at every width, and a pipe gets one line for each row."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
import test_runner
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from test_runner import Laboratory

from benchmarks import records
from benchmarks.cli.tables import Column, Table

laboratory = test_runner.laboratory
WORDS = "the quick brown fox jumps over the lazy dog"
COLUMNS = Column("cell"), Column("status", "prose"), Column("bytes", "right"), Column("interval", "right")
ROWS = [
    ("digits/digits_resnet/hierarchical/44136fa3-post-training-s0", WORDS, "304,280,123", "90.96 … 92.05"),
    ("digits/x/y/44136fa3-short-s12", "", "7", "–"),
    ("cifar10/[red]x[/red]/:smile:/\N{CJK UNIFIED IDEOGRAPH-4E00}", "to run", "1", "9.43 … 10.60"),
]


def printed(width: int | None) -> str:
    """The table on a terminal of this width, without its styles, or in a pipe."""
    file = io.StringIO()
    table = Table(*COLUMNS)
    for row in ROWS:
        table.add(*row)
    terminal = width is not None
    table.print(Console(file=file, width=width, force_terminal=terminal, color_system=None, legacy_windows=False))
    return file.getvalue()


@given(st.integers(20, 200))
def test_ids_and_numbers_are_whole_at_every_width(width: int) -> None:
    """Wrong code that this finds: rich's own tables, which end ids and numbers with an ellipsis."""
    text = printed(width)
    for row in ROWS:
        assert all(cell in text for cell in (row[0], *row[2:]))
    words = text.split()
    assert all(word in words for word in WORDS.split())
    longest = max(cell_len(row[0]) for row in ROWS)
    assert all(cell_len(line) <= max(width, longest) for line in text.splitlines()) or width < 40


@pytest.mark.parametrize("columns", [None, "40"])
def test_a_pipe_gets_one_whole_line_for_each_row(monkeypatch: pytest.MonkeyPatch, columns: str | None) -> None:
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    lines = printed(None).splitlines()
    assert len(lines) == 1 + len(ROWS)
    for line, row in zip(lines[1:], ROWS, strict=True):
        assert all(cell in line for cell in row)


def test_a_cell_is_one_line_without_control_characters() -> None:
    table = Table(*COLUMNS)
    table.add("a\nb", "c\td", "\x1b[31m1", "2")
    assert table.rows == [("a b", "c d", "?[31m1", "2")]


def through_a_terminal(width: int, *arguments: str) -> str:
    """What the command writes to a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    command = [sys.executable, "-m", "benchmarks.cli", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm"}) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                part = b""
            written += part
            if not part:
                break
    os.close(ours)
    assert process.returncode == 0, written
    return written.decode()


def test_show_is_whole_in_a_pipe_and_on_a_narrow_terminal(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong code that this finds: a table that takes 80 columns where there is no terminal."""
    laboratory.run()
    assert laboratory.ratebench("show", "digits") == 0
    piped = capsys.readouterr().out
    narrow = through_a_terminal(50, "show", "digits")
    known = list(records.load(laboratory.results, "digits"))
    assert len(known) == 3 and len(piped.splitlines()) == 4
    for one in known:
        name = one.id.removeprefix("digits/")
        line = next(line for line in piped.splitlines() if name in line)
        numbers = (f"{one.rate.file_bytes:,}", f"{one.rate.ratio:.2f}", f"{one.rate.bits_per_weight:.3f}")
        assert all(number in line and number in narrow for number in (*numbers, f"n {one.index}"))
        assert name in narrow
