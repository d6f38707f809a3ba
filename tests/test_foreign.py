"""Well-formed files whose networks are not for the task at hand: scoring them is refused in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import bitstream, networks
from benchmarks.bitstream import blueprint
from benchmarks.bitstream.codecs import constant, index
from benchmarks.bitstream.modules import avg_pool2d, batch_norm2d, conv2d, gather, linear, sequential
from benchmarks.errors import BitstreamError, RateBenchError, first_line
from benchmarks.evaluation import scoring, shards, work, worker
from benchmarks.evaluation.messages import Wanted
from benchmarks.evaluation.scorer import Scorer
from benchmarks.evaluation.work import Work
from methods.interface import Compressed, ModuleSpec

CPU = torch.device("cpu")
PADDED = conv2d.spec(1, 16, kernel_size=3, padding=1024, bias=False)
FOREIGN: dict[str, tuple[str, Mapping[str, Any], Mapping[str, ModuleSpec]]] = {
    "three input channels": ("cifar_resnet", {"depth": 20}, {}),
    "another width": ("digits_cnn", {}, {"3": conv2d.spec(16, 8, kernel_size=3)}),
    "a window larger than the image": ("digits_cnn", {}, {"6": avg_pool2d.spec(100, 1)}),
    "a kernel larger than the image": ("digits_cnn", {}, {"3": conv2d.spec(16, 32, kernel_size=30)}),
    "another number of features": ("digits_cnn", {}, {"12": linear.spec(31, 10)}),
    "a channel that is not there": ("digits_cnn", {}, {"2": gather.spec(16)}),
    "another normalisation": ("digits_cnn", {}, {"1": batch_norm2d.spec(15)}),
    "large images": ("digits_cnn", {}, {"0": PADDED}),
    "ever larger images": (
        "digits_cnn",
        {},
        {"2": sequential.spec(*[conv2d.spec(16, 16, kernel_size=1, padding=1000, groups=16)] * 20)},
    ),
    "windows without end": (
        "digits_cnn",
        {},
        {"0": sequential.spec(conv2d.spec(1, 16, kernel_size=1, padding=50, stride=2), avg_pool2d.spec(40, 1))},
    ),
    "thousands of layers": ("digits_cnn", {}, {"2": sequential.spec(*[avg_pool2d.spec(1, 1)] * 2000)}),
    "much more work": ("digits_cnn", {}, {"0": conv2d.spec(1, 16, kernel_size=3, padding=60, bias=False)}),
}


def written(folder: Path, name: str) -> Path:
    architecture, arguments, edits = FOREIGN[name]
    tensors = blueprint.state(blueprint.skeleton(architecture, arguments, edits, {}))
    parts = [constant.part([t for t in tensors if not t.endswith("index")], 0.5, "weights")]
    if gathered := [t for t in tensors if t.endswith("index")]:
        parts.append(index.part(gathered, [np.full(tensors[t].shape, 99) for t in gathered], 100))
    path = folder / "foreign.rbn"
    path.write_bytes(bitstream.encode(Compressed(architecture, arguments, tuple(parts), {}, edits)))
    return path


@pytest.mark.parametrize("name", FOREIGN)
def test_a_network_that_is_not_for_the_task_is_refused(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, name)
    bitstream.decode(path.read_bytes())  # well formed
    with pytest.raises(BitstreamError) as refused:
        worker.score(Wanted(str(path)), "digits", "digits_cnn", CPU)
    assert str(refused.value).startswith(f"the network in {path} can't be run on the items of digits: ")
    assert first_line(refused.value) == str(refused.value)


@pytest.mark.parametrize(
    "name", ["large images", "ever larger images", "windows without end", "thousands of layers", "much more work"]
)
def test_what_is_far_too_large_is_not_even_tried(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "scored", lambda *_: pytest.fail("it was run"))
    with pytest.raises(BitstreamError, match=r"run on the items of digits: an (activation|item) (takes|reads)"):
        worker.score(Wanted(str(written(tmp_path, name))), "digits", "digits_cnn", CPU)


def test_a_plan_counts_what_running_counts_and_computes_nothing() -> None:
    for name, arguments, shape in (
        ("digits_cnn", {}, (1, 1, 8, 8)),
        ("digits_resnet", {"width": 4, "blocks": 1}, (1, 1, 8, 8)),
        ("cifar_resnet", {"depth": 20}, (1, 3, 32, 32)),
    ):
        network, example = networks.build(name, arguments).eval(), torch.zeros(shape)
        before = dict(network.state_dict())
        plan = work.planned(network, example)
        followed = work.followed(network, example)
        assert (plan.largest, plan.macs) == (followed.largest, followed.macs)
        assert plan.moved == pytest.approx(followed.moved, rel=0.01)  # a device may have other batch statistics
        with FlopCounterMode(display=False) as counter:
            network(example)
        assert plan.macs == counter.get_total_flops() // 2
        assert all(
            tensor is network.state_dict()[key] or tensor.equal(network.state_dict()[key])
            for key, tensor in before.items()
        )
        assert {tensor.device for tensor in network.state_dict().values()} == {CPU}
    with torch.device("meta"):
        huge = nn.Conv2d(2**15, 2**15, 1)
    assert work.planned(huge, torch.zeros(1, 2**15, 1, 1)) == Work(2**15, 2**30, 2**30 + 3 * 2**15)


def test_what_moves_is_read_and_written_by_every_operation() -> None:
    example = torch.zeros(1, 2, 8, 8)
    for network, moved in (
        (nn.Identity(), 0),
        (nn.Flatten(), 0),
        (nn.ReLU(), 128 + 128),
        (nn.ReLU(inplace=True), 128 + 128),
        (nn.Sequential(*[nn.ReLU()] * 50), 50 * 256),
        (nn.AvgPool2d(4, 1), 50 * (16 + 1)),
        (nn.AvgPool2d((2, 4), 1), 70 * (8 + 1)),
        (nn.AdaptiveAvgPool2d(1), 128 + 2),
        (nn.Conv2d(2, 4, 3, bias=False), 128 + 72 + 144),
    ):
        assert work.planned(network, example).moved == moved, network
    pool = work.planned(nn.MaxPool2d(4, 1), example)
    assert pool.moved in (50 * 17, 100 * 17)  # with the indices of the largest values, or without


class Peeks(nn.Module):
    """Looks at its values, which a plan can't."""

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 1e9):
            raise KeyError("never")
        return nn.functional.one_hot(x[:, 0, 0, 0].long() % 10, 10).float()


class Image(nn.Module):
    """An image of ten numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, None, :, None].expand(-1, 1, -1, 10)


def test_a_network_that_can_not_be_planned_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    example = torch.zeros(1, 1, 8, 8)
    worker._work(Peeks(), example, "digits", "digits_cnn")
    pools = [nn.AvgPool2d(1, 1) for _ in range(1000)]
    run: list[nn.Module] = []
    for pool in pools:
        pool.register_forward_hook(lambda module, inputs, output: run.append(module))
    wide = nn.Sequential(nn.Upsample(scale_factor=64), *pools, Peeks())
    with pytest.raises(ValueError, match=r"an item reads and writes more than 2,560,256 values, 64 times those of the"):
        worker._work(wide, example, "digits", "digits_cnn")
    run.clear()
    with pytest.raises(ValueError, match="more than 2,560,256 values"):
        worker._work(
            nn.Sequential(Peeks(), Image(), nn.Upsample(scale_factor=64), *pools), example, "digits", "digits_cnn"
        )
    assert len(run) < 20  # and then no more
    monkeypatch.setattr(worker, "_usual", lambda *_: None)
    worker._work(wide, example, "digits", "digits_cnn")
    monkeypatch.setattr(worker, "ALONE", Work(macs=2**40, moved=2**20))
    with pytest.raises(ValueError, match=r"more than 1,048,576 values, all that scoring allows"):
        worker._work(wide, example, "digits", "digits_cnn")


class Makes(nn.Module):
    """Makes a tensor of its own that no memory holds."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum() + torch.zeros(2**50, device=x.device)


def test_a_tensor_that_a_network_makes_is_counted_before_it_is_made() -> None:
    example = torch.zeros(1, 1, 8, 8)
    for network in (Makes(), nn.Sequential(Peeks(), Makes())):
        with pytest.raises(ValueError, match="an item reads and writes more than 2,560,256 values"):
            worker._work(network, example, "digits", "digits_cnn")


def test_a_large_activation_is_refused_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other devices, a lack of memory is an error of its own."""
    monkeypatch.setattr(worker, "_usual", lambda *_: None)
    monkeypatch.setattr(scoring, "at_a_time", lambda shape, device: 64)
    example = torch.zeros(1, 1, 8, 8)
    worker._work(nn.Upsample(scale_factor=2**8), example, "digits", "digits_cnn")
    wide = nn.Upsample(scale_factor=2**9)
    with pytest.raises(ValueError, match="an activation takes 4,294,967,296 bytes, more than the 2,147,483,648 that"):
        worker._work(wide, example, "digits", "digits_cnn")
    assert worker._work(wide, example.to("meta"), "digits", "digits_cnn").largest == 2**24


def test_a_fresh_process_answers_in_utf_8_whatever_the_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LC_ALL", "C"), ("PYTHONUTF8", "0"), ("PYTHONCOERCECLOCALE", "0")):
        monkeypatch.setenv(name, value)
    with Scorer("digits", "digits_cnn", CPU) as scorer, pytest.raises(BitstreamError, match=r"größer\.rbn"):
        scorer.score(Wanted(str(tmp_path / "größer.rbn")))


def test_a_fresh_process_answers_with_a_sentence_and_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    foreign = written(tmp_path, "three input channels")
    with Scorer("digits", "digits_cnn", CPU) as scorer:
        with pytest.raises(BitstreamError, match="can't be run on the items of digits"):
            scorer.score(Wanted(str(foreign)))
        with pytest.raises(RateBenchError, match="can't read"):
            scorer.score(Wanted(str(tmp_path / "absent.rbn")))
    with Scorer("nothing", "digits_cnn", CPU) as scorer, pytest.raises(RateBenchError, match="unknown task 'nothing'"):
        scorer.score(Wanted(str(foreign)))
    assert "Traceback" not in capfd.readouterr().err
