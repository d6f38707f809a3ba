"""NNCodec in a limited process of its own: its results, what it does with hostile files, and where it is looked for."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import bitstream, networks, tasks
from benchmarks.errors import BitstreamError, MethodError
from benchmarks.evaluation.scoring import total_score
from methods.baselines import nnc
from methods.baselines.nnc import client, worker
from methods.baselines.nnc.client import LIBRARY, Library, NNCodecError

HOSTILE = Path(__file__).parent / "goldens" / "hostile_nnc"
ARGUMENTS = {"width": 16, "classes": 10}
DIRECT = [  # bytes, hash of the file, hash of its values: nncodec 2.1.3 called in this process, with numpy 1.26
    (16607, "bd561a69fae33c90", "c51f5848d08d8f71"),
    (3328, "35079fc36f186039", "56b62195a9e99377"),
]


@pytest.fixture(scope="module")
def installed() -> None:
    if reason := nnc.unsupported(tasks.load("digits", "digits_cnn"), nnc.Config()):
        pytest.skip(reason)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A library of its own, so that a test may break it."""
    made = Library()
    monkeypatch.setattr(nnc, "LIBRARY", made)
    yield made
    made.end()


def network() -> torch.nn.Module:
    """digits_cnn with values that are the same on every machine."""
    made = networks.build("digits_cnn", ARGUMENTS).eval()
    for tensor in made.state_dict().values():
        whole = torch.arange(tensor.numel()) * 7919 % 1009
        tensor.copy_((whole.float() / 1009 - 0.25).reshape(tensor.shape))
    return made


def task() -> Any:
    return SimpleNamespace(reference=network, architecture="digits_cnn", arguments=ARGUMENTS)


def written(*qps: int) -> list[bytes]:
    return [bitstream.encode(made) for made in nnc.compress(task(), nnc.Config(qps=qps), None)]  # type: ignore[arg-type]


def test_files_and_values_are_those_of_the_library_called_directly(installed: None) -> None:
    """Neither the pipe nor numpy 2 changes a bit."""
    found = []
    for data in written(-35, -9):
        values = hashlib.sha256()
        for tensor in bitstream.decode(data).state_dict().values():
            values.update(tensor.numpy().tobytes())
        found.append((len(data), hashlib.sha256(data).hexdigest()[:16], values.hexdigest()[:16]))
    assert found == DIRECT


def test_corrected_statistics_change_nothing_else(installed: None) -> None:
    """The library codes them in place of the stored ones; at a coarse step, the decoded network is then a better one."""
    digits, found = tasks.load("digits", "digits_cnn"), []
    for items in (0, 500):
        config = nnc.Config(qps=(-17,), recalibrate=items)
        (made,) = nnc.compress(digits, config, None)  # type: ignore[arg-type]
        found.append(bitstream.decode(bitstream.encode(made)))
    before, after = (dict(made.state_dict()) for made in found)
    changed = {name.rpartition(".")[2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"running_mean", "running_var"}
    wrong = [len(digits.validation) - total_score(made, digits.validation, digits) for made in found]
    assert wrong[1] < wrong[0] / 4


@pytest.mark.parametrize(("name", "complaint"), [("crash", r"crashed \(SIG"), ("endless", "more time than its length")])
def test_a_file_that_crashes_or_hangs_the_library_is_refused(installed: None, name: str, complaint: str) -> None:
    LIBRARY.start()
    before = LIBRARY._process
    with pytest.raises(BitstreamError, match=f"NNCodec can't decode its stream: .*{complaint}"):
        bitstream.decode((HOSTILE / f"{name}.rbn").read_bytes())
    assert LIBRARY._process is before, "a new import of the library for each hostile file"
    assert bitstream.decode(written(-9)[0]) is not None


def test_a_stream_of_other_tensors_is_refused(installed: None) -> None:
    (stream,) = LIBRARY.ask(
        {
            "do": "encode",
            "limits": None,
            "tensors": [["a.weight", "float32", [4, 4]]],
            "settings": {"qp": -20, "ioq": False},
        },
        [bytes(64)],
    )
    with pytest.raises(BitstreamError, match="holds other tensors than the file's header names"):
        nnc._decode({}, [stream], [(4, 5)])
    assert nnc._decode({}, [stream], [(4, 4)])[0].shape == (4, 4)


def forever(request: Any, buffers: Any) -> list[bytes]:
    while True:
        pass


def divide_by_zero(request: Any, buffers: Any) -> list[bytes]:
    signal.signal(signal.SIGFPE, signal.SIG_DFL)  # otherwise pytest prints its stack
    os.kill(os.getpid(), signal.SIGFPE)
    return []


def leave(request: Any, buffers: Any) -> list[bytes]:
    raise SystemExit("the library gives up")


@pytest.mark.parametrize(
    ("decode", "complaint"),
    [
        (forever, "more time than its length allows"),
        (lambda *_: time.sleep(600), "more time than its length allows"),
        (divide_by_zero, r"crashed \(SIGFPE\)"),
        (lambda *_: os.kill(os.getpid(), signal.SIGKILL), "out of memory"),
        (lambda *_: os._exit(3), "ended its process"),
        (lambda *_: [bytes(2**31)], "MemoryError"),
        (leave, "the library gives up"),
    ],
    ids=["loops", "waits", "crashes", "killed", "exits", "memory", "SystemExit"],
)
def test_whatever_the_library_does_to_its_process_is_an_answer(
    decode: Callable[..., Any], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "decode", decode)
    monkeypatch.setattr(worker, "WALL", 1)
    reply, found = worker.forked({"do": "decode", "limits": [1, 2**28]}, [])
    assert found == []
    assert re.search(complaint, reply["error"]), reply["error"]


def test_limits_follow_the_length_and_the_values() -> None:
    assert nnc._limits(313, 5_000) == (2, 2**28 + 16 * 313 + 40 * 5_000)
    assert nnc._limits(10**6, 4 * 10**6)[0] == 16, "10 µs a byte and 1 µs a value"


@pytest.mark.parametrize(
    "answer", ['{"version": "2.1.2", "sizes": []}', '{"error": "no torch", "sizes": []}', "", "Oops"]
)
def test_a_python_without_the_right_library_is_named(
    answer: str, fresh: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\necho '{answer}'\n")
    fake.chmod(0o755)
    monkeypatch.setenv(client.SETTING, str(fake))
    reason = nnc.unsupported(tasks.load("digits", "digits_cnn"), nnc.Config())
    said = {"2.1.2": "it has version 2.1.2", "no torch": "no torch"}
    problem = next((said[part] for part in said if part in answer), "it ended while it started")
    assert reason == f"nncodec 2.1.3 can't be used with {fake}: {problem}"


def test_where_the_library_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(client.SETTING, raising=False)
    monkeypatch.setattr(client, "OWN", tmp_path / "nncodec")
    monkeypatch.setattr(client, "LEFT_OUT", tmp_path / "reason.txt")
    monkeypatch.setattr(client.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MethodError, match=r"not installed: pip install 'ratebench\[nnc\]', or set RATEBENCH_NNCODEC"):
        client.python()
    client.LEFT_OUT.write_text("NNCodec is left out: no compiler\n", encoding="utf-8")
    with pytest.raises(MethodError, match=r"^NNCodec is left out: no compiler$"):
        client.python()
    monkeypatch.setattr(client.importlib.util, "find_spec", lambda name: object())
    assert client.python() == sys.executable
    (tmp_path / "nncodec" / "bin").mkdir(parents=True)
    (tmp_path / "nncodec" / "bin" / "python").touch()
    assert client.python() == str(tmp_path / "nncodec" / "bin" / "python")
    monkeypatch.setenv(client.SETTING, "/elsewhere/python")
    assert client.python() == "/elsewhere/python"


def test_a_setting_that_is_no_program_is_one_sentence(fresh: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(client.SETTING, "/elsewhere/python")
    reason = nnc.unsupported(tasks.load("digits", "digits_cnn"), nnc.Config())
    assert reason is not None and "can't start /elsewhere/python: No such file" in reason and client.SETTING in reason


def test_a_process_that_is_lost_is_replaced(fresh: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "python"  # starts well, and ends at the first request
    fake.write_text('#!/bin/sh\necho \'{"version": "2.1.3", "sizes": []}\'\nread line\n')
    fake.chmod(0o755)
    monkeypatch.setenv(client.SETTING, str(fake))
    for _ in range(2):
        with pytest.raises(NNCodecError, match="its process ended unexpectedly"):
            fresh.ask({"do": "decode"}, [b"data"])
