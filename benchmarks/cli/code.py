"""Commands about the code of methods: `methods` and `new-method`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

import methods
from benchmarks import scaffold
from benchmarks.cli.app import app, console
from benchmarks.errors import RateBenchError


@app.command("new-method")
def new_method(key: Annotated[str, typer.Argument(help="Short lower-case name, e.g. the paper's acronym.")]) -> None:
    """Write a template package for a method, with tests that fail until it is filled in."""
    for path in scaffold.new_method(key):
        console.print(f"wrote {path}")


@app.command("methods")
def list_methods() -> None:
    """List the installed methods."""
    table = Table("method", "title", "year", "fidelity", "budgets")
    for key in methods.names():
        try:
            card = methods.get(key).CARD
        except RateBenchError as error:  # one broken plug-in must not hide the others
            table.add_row(key, escape(str(error)), "", "", "")
        else:
            table.add_row(key, escape(card.title), str(card.year), card.fidelity, ", ".join(card.budgets))
    console.print(table)
