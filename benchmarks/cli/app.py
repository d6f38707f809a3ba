"""The parts that all commands share: the application, its consoles, and the options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

app = typer.Typer(
    help="Measure neural-network compression: real files, decoded in a fresh process, scored and recorded.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
console = Console(**_PLAIN)
errors = Console(stderr=True, **_PLAIN)

Suite = Annotated[str, typer.Argument(help="digits, cifar10, … (params.yaml)")]
Methods = Annotated[list[str] | None, typer.Option("--method", "-m", help="Only this method (repeatable).")]
Networks = Annotated[list[str] | None, typer.Option("--network", "-n", help="Only this network (repeatable).")]
BudgetOption = Annotated[str, typer.Option("--budget", "-b", help="post-training, short or paper.")]
Configs = Annotated[
    list[str] | None, typer.Option("--config", "-c", help="Only the configuration of this hash (repeatable).")
]
AllConfigs = Annotated[
    bool, typer.Option("--all-configs", "-a", help="All configurations in params.yaml, not only each method's first.")
]
AllBudgets = Annotated[bool, typer.Option("--all-budgets", help="Every budget of the suite in params.yaml.")]
Seeds = Annotated[list[int] | None, typer.Option("--seed", "-s", min=0, help="Only this seed (repeatable).")]
Results = Annotated[Path, typer.Option(help="The folder of records and artefacts.")]
Note = Annotated[Path | None, typer.Option(help="Write names and hashes of the results to this file, for pipelines.")]


def counted(number: int, noun: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def say(text: str) -> None:
    """Print text as it is; where a line is too long, the terminal breaks it, and a pipe gets it whole."""
    console.print(text, soft_wrap=True)


def warn(text: str) -> None:
    """`say` to the error stream."""
    errors.print(text, soft_wrap=True)
