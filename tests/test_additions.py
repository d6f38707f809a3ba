"""What one adds to the project is a new file: it changes no other, and no result becomes stale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from checkout import Copy

NETWORK = '''
"""One linear layer."""
from torch import nn


def one_layer(classes: int = 10) -> nn.Sequential:
    return nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(64, classes))
'''
CODEC = '''
"""Whole numbers from 0 to 255, a byte each."""
import math

import numpy as np

from benchmarks.errors import BitstreamError
from methods.interface import Coded, Part


def part(targets, values, role):
    return Part("bytewise", tuple(targets), role, {"values": values})


def encode(part):
    return Coded({}, ((part.role, b"".join(np.asarray(v).astype(np.uint8).tobytes() for v in part.data["values"])),))


def decode(meta, streams, shapes):
    values, sizes = np.frombuffer(b"".join(streams), np.uint8), [math.prod(shape) for shape in shapes]
    if len(values) != sum(sizes):
        raise BitstreamError("bytes are missing")
    return [v.astype(np.float32).reshape(s) for v, s in zip(np.split(values, np.cumsum(sizes)[:-1]), shapes)]
'''
TASK = '''
"""The digits, with a linear layer that has never learned anything."""
from benchmarks import networks
from benchmarks.tasks import digits
from benchmarks.tasks.kinds.classification import Classification, ClassificationTest

NETWORKS, ITEMS, METRICS = {"line": {}}, digits.ITEMS, digits.METRICS


def task(network):
    known = digits.task("digits_cnn")
    state = networks.build("one_layer", {}).state_dict
    return Classification(
        "lines", network, "one_layer", {}, METRICS, (0.5,), (0.5,), known.augmentation, known.load_splits, state
    )


def test(network):
    return ClassificationTest(task(network), digits.test_split, (1, 8, 8), ITEMS[1])


def files(network=None):
    return []


def provenance(network):
    return {"data": "as digits"}
'''
MODULE = '''
"""The input, doubled."""
from torch import nn

from methods.interface import ModuleSpec


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


def spec():
    return ModuleSpec("Doubled")


def build(arguments, children):
    if arguments or children:
        raise ValueError("Doubled takes nothing")
    return Doubled()
'''
ADDED = {
    "benchmarks/networks/one_layer.py": NETWORK,
    "benchmarks/bitstream/codecs/bytewise.py": CODEC,
    "benchmarks/tasks/lines.py": TASK,
    "benchmarks/bitstream/modules/doubled.py": MODULE,
}
# A file of the new network, written with the new codec, is decoded and scored on the new task.
USED = """
import sys
from pathlib import Path
import numpy as np, torch
from benchmarks import bitstream, fingerprint, tasks
from benchmarks.bitstream.codecs import bytewise
from benchmarks.bitstream.modules import doubled
from benchmarks.evaluation import worker
from benchmarks.evaluation.messages import Wanted
from methods.interface import Compressed

torch.set_num_threads(1)
assert fingerprint.ROOT == Path(sys.argv[1]) and "lines" in tasks.names()
weight = np.zeros((10, 64))
weight[7] = 3
part = bytewise.part(["2.weight", "2.bias"], [weight, np.arange(10)], "weights")
file = Path(sys.argv[1], "x.rbn")
file.write_bytes(bitstream.encode(Compressed("one_layer", {}, (part,), {}, {"0": doubled.spec()})))
network = bitstream.decode(file.read_bytes())
assert torch.equal(network(torch.ones(1, 1, 8, 8))[0], torch.arange(10.0) + 3 * 64 * 2 * (torch.arange(10) == 7))
print(worker.score(Wanted(str(file)), "lines", "line", torch.device("cpu")).scores["top-1"].items)
"""


def test_a_new_network_codec_task_and_kind_of_module_are_one_file_each(
    tmp_path: Path, fresh_python: Callable[..., str]
) -> None:
    """A fresh process knows them all."""
    copy = Copy(tmp_path / "checkout")
    before = copy.fingerprints()
    for name, text in ADDED.items():
        copy.write(name, text)
        assert copy.stale(before) == set(), name
    assert fresh_python(USED, copy.root, root=copy.root) == "400\n"
