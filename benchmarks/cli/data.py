"""Commands about data and pipelines: `fetch`, `prepare` and `fingerprints`."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import storage, tasks
from benchmarks.cli.app import Networks, Note, Suite, app, console, say, warn
from benchmarks.data import download
from benchmarks.running import params, plan, reference_training, stages


@app.command()
def fetch(task: Annotated[str, typer.Argument(help="cifar10, …")], network: Networks = None, note: Note = None) -> None:
    """Download the files of a task and check their hashes; `RATEBENCH_MIRROR` (a folder or a URL) is tried first."""
    module = tasks.get(task)
    for name in network or ():
        tasks.load(task, name)
    wanted = [f for n in network for f in module.files(n)] if network else module.files()
    for file in dict.fromkeys(f.name for f in wanted):
        place = download.fetch(next(f for f in wanted if f.name == file))
        say(f"{file}: verified in {place if place.is_dir() else place.parent}")
    if not wanted:
        say(f"{task} is embedded: nothing to fetch")
    _write(note, {file.name: file.known_hash for file in wanted})


@app.command()
def prepare(task: Annotated[str, typer.Argument(help="imagenet")], note: Note = None) -> None:
    """Unpack archives whose licence forbids automatic download (data.dvc); resumes after an interruption."""
    module = tasks.get(task)
    if not hasattr(module, "prepare"):
        say(f"{task} needs no preparation")
        return
    module.prepare(say)
    _write(note, {"data": module.provenance(next(iter(module.NETWORKS)))["data"]})


@app.command()
def fingerprints(suite: Suite, note: Note = None) -> None:
    """Print a fingerprint for each method and network of a suite; the stages of dvc.yaml depend on them."""
    found = stages.fingerprints(suite)
    for error in plan.usable(suite)[1].values():
        warn(f"left out: {error}")
    if note is None:
        console.print_json(data=found)
    _write(note, found)


@app.command()
def train(
    task: Annotated[str, typer.Argument(help="mnist, california, …")],
    network: Annotated[
        list[str] | None, typer.Argument(help="Its networks, or patterns for them; by default all with a recipe.")
    ] = None,
) -> None:
    """Train reference networks by their recipes in params.yaml; continues after an interruption, and keeps trained ones."""
    known = tasks.get(task).NETWORKS
    chosen = [name for given in network or () for name in fnmatch.filter(known, given) or [given]]
    if network is None:
        chosen = [name for name in known if params.recipe(task, name)]
    reference_training.train_all(task, chosen, say)
    if not chosen:
        say(f"params.yaml has no recipe for a reference of {task}: nothing to train")


def _write(note: Path | None, content: dict[str, Any]) -> None:
    if note is not None:
        storage.write(note, (json.dumps(content, indent=1) + "\n").encode())
