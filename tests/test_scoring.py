"""What is measured of a decoded network: exact scores that add up over shards and processes, intervals, counts and times."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import test_runner
import torch
from hypothesis import given
from hypothesis import strategies as st
from invented import PSNR, invent_task
from places import python_path
from scipy import stats
from test_runner import Laboratory
from torch import Tensor, nn

from benchmarks import networks, records, tasks
from benchmarks.errors import BitstreamError, MethodError, RateBenchError
from benchmarks.evaluation import measure, memory, metrics, scoring, shards, work, worker
from benchmarks.evaluation.messages import Measurement, Wanted
from benchmarks.evaluation.metrics import NOTHING, Sums, agree, interval, sums
from benchmarks.evaluation.scorer import Scorer
from benchmarks.records import items
from benchmarks.tasks.kinds.classification import ClassificationTest
from benchmarks.tasks.kinds.metrics import TOP1, TOP5, classification
from benchmarks.training.layout import device_of
from methods.interface import Metric, Split

laboratory = test_runner.laboratory
CPU = torch.device("cpu")
MEAN = Metric("error", "mm", "mean", "How far off", more_is_better=False)
VALUES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),  # Newcombe, Statistics in Medicine 17 (1998), table I
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_against_published_values(correct: int, total: int, low: float, high: float) -> None:
    assert metrics.wilson(correct, total) == pytest.approx((low, high), abs=5e-5)
    assert interval(TOP1, Sums(total, correct, correct)) == metrics.wilson(correct, total)
    mirrored = metrics.wilson(total - correct, total)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


@given(VALUES)
def test_the_interval_of_a_mean_is_students(values: list[float]) -> None:
    found = sums(torch.tensor(values))
    mean, error = float(np.mean(values)), float(stats.sem(values)) if len(values) > 1 else 0.0
    expected = stats.t.interval(0.95, len(values) - 1, mean, error) if error > 0 else (mean, mean)
    near = 1e-6 * max(map(abs, values))  # of a small spread, sums of squares keep few digits
    assert found.value == pytest.approx(mean, abs=near) and interval(MEAN, found) == pytest.approx(expected, abs=near)
    assert metrics.mean_error(found) == pytest.approx(error, abs=near)


@given(st.lists(VALUES, min_size=1, max_size=6), st.booleans())
def test_sums_add_up_over_shards_in_any_order(parts: list[list[float]], proportion: bool) -> None:
    """Of booleans exactly, and as whole numbers; of real values to the precision of fp64."""
    tensors = [torch.tensor(part) > 0 if proportion else torch.tensor(part) for part in parts]
    whole = sums(torch.cat(tensors))
    for order in (tensors, tensors[::-1]):
        added = sum(map(sums, order), NOTHING)
        if proportion:
            assert added == whole == Sums(whole.items, whole.total, whole.total) and isinstance(added.total, int)
        else:
            size = float(torch.cat(tensors).double().abs().sum())
            assert added.items == whole.items and added.total == pytest.approx(whole.total, abs=1e-12 * (1 + size))
            assert added.squares == pytest.approx(whole.squares, rel=1e-12)


def test_totals_agree_exactly_or_up_to_rounding() -> None:
    """What differs in the last bits is the same mean, also where the values cancel; a proportion is exact."""
    known = Sums(10_000, 5000.0, 3600.0)
    assert agree(MEAN, known, 10_000, 5000.004) and not agree(MEAN, known, 10_000, 5000.007)
    assert not agree(MEAN, known, 9_999, 5000.0) and not agree(MEAN, known, 10_000, math.nan)
    assert agree(MEAN, Sums(10_000, 1e-9, 3600.0), 10_000, -1e-9)
    assert agree(TOP1, Sums(10**9, 10**8, 10**8), 10**9, 10**8)
    assert not agree(TOP1, Sums(10**9, 10**8, 10**8), 10**9, 10**8 + 1)


class Copycat(nn.Module):
    """Predicts the value of the first pixel."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.classes, self.most = classes, 0

    def forward(self, images: Tensor) -> Tensor:
        self.most = max(self.most, len(images))
        return nn.functional.one_hot(images[:, 0, 0, 0].round().long(), self.classes) * self.scale


def as_they_are(**changes: Any) -> Any:
    """A classification task whose network sees the pixels' own values."""
    return replace(tasks.load("digits", "digits_cnn"), mean=(0.0,), std=(1 / 255,), **changes)  # type: ignore[type-var]


@pytest.mark.parametrize(("side", "most"), [(2, 64), (260, 16)])
def test_correct_predictions_are_counted_exactly_with_a_ragged_last_batch(side: int, most: int) -> None:
    """503 images, the last batch of 55 or 7: the mean of batch means would give another share than 168 / 503."""
    images = (torch.arange(503) % 3).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, side, side)
    for label, expected in ((0, 168), (1, 168), (2, 167)):
        split = Split(images, torch.full((503,), label))
        network = Copycat()
        assert (scoring.total_score(network, split, as_they_are()), network.most) == (expected, most)
    right = scoring.scores(network, split, as_they_are(), range(100, 203))["top-1"]  # type: ignore[possibly-undefined]
    assert torch.equal(right, images[100:203, 0, 0, 0] == 2)


def test_a_network_may_have_buffers_alone() -> None:
    """Or no tensors at all: it is scored like one with parameters."""
    network = Copycat()
    images = (torch.arange(300) % 3).to(torch.uint8).view(-1, 1, 1, 1)
    split = Split(images, torch.zeros(300).long())
    test = ClassificationTest(as_they_are(), lambda: split, (1, 1, 1), 300)
    expected = shards.scored(network, test, 0, 1, None, "")
    del network.scale
    for scale in (torch.ones(()), None):
        network.register_buffer("scale", scale)
        if scale is None:
            network.forward = lambda images: nn.functional.one_hot(images[:, 0, 0, 0].round().long(), 3)  # type: ignore[method-assign]
        assert shards.scored(network, test, 0, 1, None, "") == expected == {"top-1": Sums(300, 100, 100)}
        assert device_of(network) == CPU
    assert device_of(nn.BatchNorm1d(2, affine=False, device="meta")) == torch.device("meta")


@pytest.mark.parametrize(
    ("scores", "complaint"),
    [
        (
            {"psnr": torch.tensor([30.0, math.inf, math.nan])},
            "psnr is infinite or NaN for 2 of the test items 0 to 2: it can't",
        ),
        ({"psnr": torch.zeros(2)}, r"the task gives psnr the shape \(2,\) for 3 test items: give one value per item"),
        ({"psnr": torch.tensor(30.0)}, r"the task gives psnr the shape \(\) for 3 test items"),
        (
            {"psnr": torch.ones(3).bool()},
            "the metrics of coded are {'psnr': 'mean'}, but its test gives {'psnr': 'proportion'}",
        ),
        ({"snr": torch.zeros(3)}, "the metrics of coded are {'psnr': 'mean'}, but its test gives {'snr': 'mean'}"),
    ],
    ids=["not finite", "too few", "a sum", "booleans", "another name"],
)
def test_scores_that_are_not_those_of_the_metrics_are_refused(
    scores: dict[str, torch.Tensor], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    invent_task(monkeypatch, "coded", PSNR)
    test: Any = SimpleNamespace(items=3, scores=lambda network, part: scores)
    with pytest.raises(MethodError, match=complaint):
        worker._check_kinds("coded", shards.scored(Copycat(), test, 0, 1, None, ""))
    worker._check_kinds("coded", {})  # of a process without a shard


def test_top_5_comes_with_more_than_ten_classes() -> None:
    assert classification(10) == (TOP1,) and classification(11) == (TOP1, TOP5)
    assert {name: [m.name for m in tasks.get(name).METRICS] for name in ("cifar10", "imagenet_sample")} == {
        "cifar10": ["top-1"],
        "imagenet_sample": ["top-1", "top-5"],
    }
    outputs, targets = torch.rand(200, 12, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 12
    ranks = (outputs > outputs[torch.arange(200), targets][:, None]).sum(1)  # how many classes are more likely
    found = as_they_are(metrics=classification(12)).scores(outputs, targets)
    assert torch.equal(found["top-1"], ranks < 1) and torch.equal(found["top-5"], ranks < 5)
    assert set(as_they_are().scores(outputs, targets)) == {"top-1"}


def test_a_sum_that_is_no_count_is_of_the_first_metric() -> None:
    """Lower is better, and a value of every item."""
    images = torch.arange(70).to(torch.uint8).view(-1, 1, 1, 1)

    class Task:
        metrics = (MEAN,)

        def prepare(self, inputs: Tensor) -> Tensor:
            return inputs.float()

        def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
            return {"error": (outputs.argmax(1) - targets).abs() / 4}

    task: Any = Task()
    assert scoring.total_score(Copycat(70), Split(images, torch.zeros(70).long()), task) == 69 * 70 / 2 / 4


def test_multiply_accumulates_against_a_count_by_hand() -> None:
    tower = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 8 · 3 · 9 at 4 × 4
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=4),  # 8 · 2 · 9 at 4 × 4
        nn.Flatten(),
        nn.Linear(128, 10),
    ).eval()
    assert measure.macs(tower, torch.zeros(5, 3, 8, 8)) == 8 * 3 * 9 * 16 + 8 * 2 * 9 * 16 + 1280
    digits = networks.build("digits_cnn", {}).eval()
    assert measure.macs(digits, torch.zeros(1, 1, 8, 8)) == 16 * 9 * 64 + 32 * 16 * 9 * 64 + 32 * 32 * 9 * 16 + 320
    resnet = networks.build("cifar_resnet", {"depth": 20}).eval()
    stages = 7 * 16 * 16 * 9 * 1024 - 16 * 13 * 9 * 1024 + 2 * (16 * 32 * 9 * 256 + 5 * 32 * 32 * 9 * 256)
    assert measure.macs(resnet, torch.zeros(1, 3, 32, 32)) == stages + 640 == 40_551_040


def test_elements_are_parameters_and_statistics_but_not_batch_counters() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    assert measure.elements(network)[0] == 2 * 3 + 3 + 4 * 3
    nn.init.zeros_(network[0].weight)
    assert measure.elements(network) == (21, 21 - 6 - 3 - 3)  # the zeros: weights, BatchNorm's bias and mean


def test_bits_are_counted_on_the_reference_alone() -> None:
    task = tasks.load("digits", "digits_cnn")
    assert (task.reference_values, task.uncompressed_bytes) == (14_618, 4 * 14_618)
    assert measure.bits_per_value(1000, 4000) == 2.0 and measure.bits_per_value(1000, None) is None


MEASURED = Measurement(
    sha256="0" * 64,
    file_bytes=300,
    by_role={"weights": 300},
    scores={"top-1": Sums(400, 390, 390)},
    elements=20,
    nonzero=10,
    macs=1000,
    decode_s=0.5,
    latency_ms_batch1=1.5,
    latency_ms_batch128=None,
)
ANSWERS = """
import json, sys
for line in sys.stdin:
    name = json.loads(line)["artefact"]
    print(sys.argv[1] if name == "good" else json.dumps({"error": f"{name} is no network"}), flush=True)
"""


def test_a_scorer_sends_lines_to_a_process_and_reads_its_lines() -> None:
    """A small program stands for the process that scores."""
    with Scorer("digits", "digits_cnn", CPU) as scorer:
        scorer._command = [sys.executable, "-c", ANSWERS, msgspec.json.encode(MEASURED).decode()]
        for _ in range(2):
            assert scorer.score(Wanted("good")) == MEASURED
            with pytest.raises(BitstreamError, match=r"^größer\.rbn is no network$"):
                scorer.score(Wanted("größer.rbn"))


def test_a_worker_answers_each_line_and_prints_nothing_else_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(wanted: Wanted, task: str, network: str, device: torch.device) -> Measurement:
        print("a library says something", flush=True)
        if wanted.artefact == "bad":
            raise BitstreamError("größer")
        return msgspec.structs.replace(MEASURED, sha256=f"{wanted.artefact} {task} {network} {device}")

    asked = "".join(f"{msgspec.json.encode(Wanted(name)).decode()}\n" for name in ("good", "bad", "better"))
    monkeypatch.setattr(memory, "keep", lambda: None)
    monkeypatch.setattr(worker, "score", score)
    monkeypatch.setattr(sys, "stdin", io.StringIO(asked))
    with (tmp_path / "answers").open("w") as answers, (tmp_path / "said").open("w") as said:
        monkeypatch.setattr(sys, "stdout", answers)
        monkeypatch.setattr(sys, "stderr", said)
        worker.main("digits", "digits_cnn", "cpu", "1")
        monkeypatch.undo()
    replies = (tmp_path / "answers").read_text(encoding="utf-8").splitlines()
    good, bad, better = map(msgspec.json.decode, replies)
    names = [msgspec.convert(reply, Measurement).sha256 for reply in (good, better)]
    assert names == ["good digits digits_cnn cpu", "better digits digits_cnn cpu"] and bad == {"error": "größer"}
    assert (tmp_path / "said").read_text() == "a library says something\n" * 3


def test_a_worker_ends_quietly_when_nobody_reads_its_answers() -> None:
    command = [sys.executable, "-m", "benchmarks.evaluation.worker", "digits", "digits_cnn", "cpu", "1"]
    environment = os.environ | {"PYTHONPATH": python_path()}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write('{"artefact": "absent.rbn"}\n')
        process.stdin.close()
        said = process.stderr.read()
    assert process.returncode == 1 and said == "", said


def test_a_fresh_process_scores_what_this_one_scores_and_outlives_a_bad_file(laboratory: Laboratory) -> None:
    laboratory.configure({"points": 1})
    laboratory.run()
    (good,) = laboratory.results.rglob("*.rbn")
    (laboratory.folder / "bad.rbn").write_bytes(b"not a network")
    known = records.read(good.with_suffix(".json"))
    with Scorer("digits", "digits_cnn", CPU) as fresh:
        with pytest.raises(BitstreamError, match="not a RateBench file"):
            fresh.score(Wanted(str(laboratory.folder / "bad.rbn")))
        with pytest.raises(BitstreamError, match=r"can't read .*absent\.rbn"):
            fresh.score(Wanted(str(laboratory.folder / "absent.rbn")))
        found = fresh.score(Wanted(str(good)))
        score = known.quality
        assert found.sha256 == known.provenance.artefact_sha256
        assert found.scores == {"top-1": Sums(400, score.total, score.squares)}
        assert found.by_role == known.rate.by_role and found.macs == known.counted.macs
        assert found.latency_ms_batch1 > 0 and (found.latency_ms_batch128 or 0) > 0
        assert fresh._process is not None
        fresh._process.kill()
        with pytest.raises(RateBenchError, match=r"the process that decodes and scores .* ended unexpectedly"):
            fresh.score(Wanted(str(good)))


def test_a_batch_that_would_take_gigabytes_is_not_timed(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory.run()
    wanted = Wanted(str(sorted(laboratory.results.rglob("*.rbn"))[0]))
    example = torch.zeros(2, 1, 8, 8)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 10))
    assert work.followed(network, example).largest == 8 * 6 * 6
    with torch.device("meta"):
        vgg = networks.build("vgg", {"depth": 16})
    size = work.followed(vgg, torch.zeros(1, 3, 224, 224, device="meta")).largest
    assert size == 64 * 224 * 224 and worker.LATENCY_BATCH * size * 4 > worker.MOST
    batches: list[int] = []
    monkeypatch.setattr(measure, "latency_ms", lambda _network, _example, batch: batches.append(batch) or 7.0)
    largest = work.followed(tasks.load("digits", "digits_cnn").reference(), example).largest
    for most, timed in ((worker.LATENCY_BATCH * largest * 4, 7.0), (worker.LATENCY_BATCH * largest * 4 - 1, None)):
        monkeypatch.setattr(worker, "MOST", most)  # bytes of fp32
        assert worker.score(wanted, "digits", "digits_cnn", CPU).latency_ms_batch128 == timed
    assert batches == [1, 128, 1]


def test_what_was_scored_before_a_kill_is_not_scored_again(
    laboratory: Laboratory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL in the middle of an evaluation in seven shards, of which two are noted."""
    laboratory.run()
    artefact = sorted(laboratory.results.rglob("*.rbn"))[0]
    notes = tmp_path / "notes"
    wanted = Wanted(str(artefact), str(notes))
    monkeypatch.setattr(shards, "SHARD", 1)
    calls: list[range] = []
    real = scoring.scores

    def counted(network: Any, split: Split, task: Any, part: range) -> dict[str, Tensor]:
        calls.append(part)
        if child == 0 and len(calls) == 3:
            os.kill(os.getpid(), 9)
        return real(network, split, task, part)

    monkeypatch.setattr(scoring, "scores", counted)
    child = os.fork()
    if child == 0:
        worker.score(wanted, "digits", "digits_cnn", CPU)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and len(list(notes.iterdir())) == 2
    found = worker.score(wanted, "digits", "digits_cnn", CPU)
    known = records.read(artefact.with_suffix(".json"))
    assert found.scores == {"top-1": Sums(400, known.quality.total, known.quality.squares)}
    assert [part.start for part in calls] == list(range(128, known.quality.items, 64))
    shares = [Wanted(str(artefact), None, first, 3) for first in range(3)]
    parts = [worker.score(share, "digits", "digits_cnn", CPU).scores["top-1"] for share in shares]
    assert sum(parts, NOTHING) == found.scores["top-1"] and all(part.items < 200 for part in parts)
    kept = items.read(artefact.with_suffix(".json"), TOP1, known.quality)
    assert kept is not None and torch.equal(kept, shards.noted_items(notes, found.sha256, TOP1, 400, CPU))
    (laboratory.folder / "other.rbn").write_bytes(artefact.with_name("p02.rbn").read_bytes())
    calls.clear()
    worker.score(Wanted("other.rbn", str(notes)), "digits", "digits_cnn", CPU)
    assert len(calls) == 7  # notes are of one file alone
