"""Where learned initial weights of sine networks are kept. Encoder and decoder have the same ones: no file holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from benchmarks import storage
from benchmarks.errors import TaskError
from benchmarks.tasks.kinds import trained
from benchmarks.training.fitting import Start

__fingerprint__ = False  # a file names them by a hash
RATES = "rates"  # beside the tensors of the network
DIGITS = 16  # of a hash in a file


def path(name: str) -> Path:
    """The file of the initial weights `name`, "<task>_<width>". A .json file beside it says how they were learned."""
    return trained.path("starts", name)


def named(start: Start, network: torch.nn.Module) -> dict[str, Tensor]:
    """The tensors to keep: the network's by name, and the learning rates."""
    names, shapes = zip(*((name, tensor.shape) for name, tensor in network.named_parameters()), strict=True)
    pieces = start.weights.split([shape.numel() for shape in shapes])
    found = {name: piece.view(shape).clone() for name, piece, shape in zip(names, pieces, shapes, strict=True)}
    return found | {RATES: start.rates}


def load(name: str) -> dict[str, Tensor]:
    """The tensors of the network by name, in its order. Raises TaskError if they are not trained yet, or damaged."""
    return {key: tensor for key, tensor in _whole(name).items() if key != RATES}


def start(name: str, network: torch.nn.Module) -> Start:
    """The same as vectors; raises TaskError also for weights of another network."""
    found = _whole(name)
    rates, shapes = found.pop(RATES, None), {key: tensor.shape for key, tensor in network.named_parameters()}
    if rates is None or {key: tensor.shape for key, tensor in found.items()} != shapes:
        msg = f"{path(name)} holds the initial weights of another network: train them again under another name"
        raise TaskError(msg)
    return Start(torch.cat([found[key].flatten() for key in shapes]), rates)


def recipe(name: str) -> Any:
    """How they were learned, as plain values. Raises TaskError if the note beside them is missing or damaged."""
    note = path(name).with_suffix(".json")
    try:
        return msgspec.json.decode(storage.read(note))["recipe"]
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        msg = f"{note} does not say how {path(name).name} was learned: restore both files from where they come"
        raise TaskError(msg) from error


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The hash of the network's tensors, by which a file names them."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(f"{name} {tuple(tensors[name].shape)}\n".encode())
        found.update(tensors[name].contiguous().numpy().tobytes())
    return found.hexdigest()[:DIGITS]


def of_digest(wanted: str) -> dict[str, Tensor] | None:
    """The tensors with this hash; None if they are not here."""
    for file in sorted(path("").parent.glob("*.safetensors")):
        tensors = load(file.stem)
        if digest(tensors) == wanted:
            return tensors
    return None


def _whole(name: str) -> dict[str, Tensor]:
    if not path(name).exists():
        task = name.rpartition("_")[0]
        msg = f"the initial weights {name} are not learned yet: `ratebench train {task}` does it with a network that needs them"
        raise TaskError(msg)
    return storage.load_tensors(path(name))
