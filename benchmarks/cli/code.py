"""Commands about the code of methods: `methods` and `new-method`."""

from __future__ import annotations

from typing import Annotated

import typer

import methods
from benchmarks import scaffold
from benchmarks.cli.app import app, console, say
from benchmarks.cli.tables import Column, Table
from benchmarks.errors import RateBenchError


@app.command("new-method")
def new_method(key: Annotated[str, typer.Argument(help="Short lower-case name, e.g. the paper's acronym.")]) -> None:
    """Write a template package for a method, with tests that fail until it is filled in."""
    for path in scaffold.new_method(key):
        say(f"wrote {path}")


@app.command("methods")
def list_methods() -> None:
    """List the installed methods."""
    names = Column("method"), Column("title", "prose"), Column("year"), Column("fidelity"), Column("budgets", "prose")
    table = Table(*names)
    for key in methods.names():
        try:
            card = methods.get(key).CARD
        except RateBenchError as error:  # one broken plug-in must not hide the others
            table.add(key, str(error), "", "", "")
        else:
            table.add(key, card.title, str(card.year), card.fidelity, ", ".join(card.budgets))
    table.print(console)
