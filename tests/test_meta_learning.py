"""Learned initial weights of sine networks: how they are learned, how pictures begin from them, files of differences."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_every_method import POST_TRAINING, MemoryRun
from torch import Tensor, nn

from benchmarks import bitstream, networks, tasks
from benchmarks.bitstream import blueprint
from benchmarks.data import div2k
from benchmarks.errors import BitstreamError, RateBenchError, TaskError
from benchmarks.evaluation.scoring import total_score
from benchmarks.fingerprint import ROOT
from benchmarks.networks import sine
from benchmarks.running import params, recipes, reference_training
from benchmarks.tasks.kinds import starts, trained
from benchmarks.training import fitting, meta_learning
from benchmarks.training.fitting import Fit, Start
from benchmarks.training.meta_learning import Learning
from methods import inr

SIZE, WIDTH, FREQUENCIES = (64, 96), 16, 8  # of the task `thumbnails`


def made(size: tuple[int, int] = (4, 4), width: int = 5) -> Any:
    torch.manual_seed(3)
    return networks.build("sine", {"size": list(size), "width": width, "frequencies": 2})


def vector(network: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(network.parameters()).detach()


def shapes(network: nn.Module) -> list[torch.Size]:
    return [parameter.shape for parameter in network.parameters()]


def drawn(count: int, pixels: int = 16, salt: int = 1) -> Tensor:
    """Pictures that have much in common: a slope, and a little noise."""
    noise = torch.randint(40, (count, pixels, 3), generator=torch.Generator().manual_seed(salt))
    return (noise + torch.linspace(20, 200, pixels)[:, None].long()).to(torch.uint8)


def test_the_gradient_passes_through_the_inner_steps() -> None:
    """Against finite differences in fp64. Wrong code that this finds: first-order gradients, rates without a gradient."""
    network = made(width=2).double()
    encoded, target = network.encoding(sine.coordinates(4, 4).double()), drawn(1)[0].double() / 127.5 - 1
    weights = vector(network).requires_grad_()
    rates = torch.full((3, len(weights)), 1e-3, dtype=torch.float64, requires_grad=True)

    def loss(weights: Tensor, rates: Tensor) -> Tensor:
        return meta_learning.loss(Start(weights, rates), shapes(network), encoded, target)

    gradients = torch.autograd.grad(loss(weights, rates), (weights, rates))
    for number, gradient in enumerate(gradients):
        for salt in range(4):
            draws = torch.randn(gradient.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(salt))
            ends = []
            for sign in (-1, 1):
                moved = [weights.detach(), rates.detach()]
                moved[number] = moved[number] + sign * 1e-6 * draws
                ends.append(loss(moved[0].requires_grad_(), moved[1]))
            slope = (ends[1] - ends[0]) / 2e-6
            torch.testing.assert_close(slope, (gradient * draws).sum(), rtol=1e-4, atol=1e-7)
    plain = loss(weights, torch.zeros_like(rates))
    torch.testing.assert_close(plain, nn.functional.mse_loss(network(sine.coordinates(4, 4).double()), target))


def test_adapting_is_gradient_descent_with_a_rate_for_each_weight() -> None:
    """Of each picture alone, by torch's own gradients."""
    network, pictures = made(), drawn(2) / 127.5 - 1
    rates = torch.rand(3, len(vector(network)), generator=torch.Generator().manual_seed(0)) * 1e-3
    encoded = network.encoding(sine.coordinates(4, 4))
    found = fitting.adapted(Start(vector(network), rates), shapes(network), encoded, pictures)
    for picture, theta in zip(pictures, found, strict=True):
        own = made()
        for rate in rates:
            own.zero_grad()
            nn.functional.mse_loss(own(sine.coordinates(4, 4)), picture).backward()  # type: ignore[no-untyped-call]
            step = torch.cat([parameter.grad.flatten() for parameter in own.parameters()]) * rate
            nn.utils.vector_to_parameters(vector(own) - step, own.parameters())
        torch.testing.assert_close(theta, vector(own), rtol=1e-4, atol=1e-6)


def fitted(recipe: Fit, start: Start | None, saved: dict[str, Any] | None = None) -> Tensor:
    run = MemoryRun(POST_TRAINING, saved=saved)
    (state,) = fitting.fitted([made()], sine.coordinates(4, 4), drawn(1), recipe, run, start)
    return torch.cat([tensor.flatten() for tensor in state.values()])


def test_fitting_begins_from_the_adapted_weights() -> None:
    """Without a step these are the result; with rates of 0, a start is nothing but other initial weights."""
    network = made()
    start = Start(vector(network), torch.full((3, len(vector(network))), 1e-2))
    encoded = network.encoding(sine.coordinates(4, 4))
    adapted = fitting.adapted(start, shapes(network), encoded, drawn(1) / 127.5 - 1)[0]
    torch.testing.assert_close(fitted(Fit(0), start), adapted)
    assert not torch.equal(adapted, start.weights)
    still = Start(start.weights, torch.zeros_like(start.rates))
    torch.testing.assert_close(fitted(Fit(30, penalty=0.0), still), fitted(Fit(30, penalty=0.0), None))


def test_the_penalty_is_that_of_the_difference() -> None:
    start = Start(torch.full_like(vector(made()), 0.3), torch.zeros(1, len(vector(made()))))
    near = fitted(Fit(200, lr=0.002, penalty=10.0), start)
    assert float((near - 0.3).abs().max()) < 0.01, "the penalty holds the weights where they begin"


def test_the_rate_rises_at_the_start() -> None:
    """Adam's first step is the learning rate, for every weight with a gradient."""
    start = Start(vector(made()), torch.zeros(1, len(vector(made()))))
    moved = [
        float((fitted(Fit(2, lr=0.001, penalty=0.0, warmup=warmup), start) - start.weights).abs().max())
        for warmup in (0, 10)
    ]
    assert moved == [pytest.approx(0.001, rel=0.01), pytest.approx(0.0001, rel=0.01)]


def test_an_interrupted_fit_keeps_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "OFTEN", 5)
    start = Start(vector(made()) + 0.01, torch.full((2, len(vector(made()))), 1e-3))
    saved: dict[str, Any] = {}
    fitted(Fit(10, penalty=0.01), start, saved)
    assert torch.equal(fitted(Fit(20, penalty=0.01), start, saved), fitted(Fit(20, penalty=0.01), start))


RECIPE = Learning(120, lr=1e-3, rate=1e-3, every=20)


def learned(recipe: Learning, saved: dict[str, Any] | None = None) -> Start:
    run = MemoryRun(POST_TRAINING, saved=saved)
    return meta_learning.learned(made(), sine.coordinates(4, 4), drawn(5), drawn(3, salt=9), recipe, run)


def validation(start: Start) -> float:
    network = made()
    encoded = network.encoding(sine.coordinates(4, 4))
    wanted = drawn(3, salt=9) / 127.5 - 1
    theta = fitting.adapted(start, shapes(network), encoded, wanted)
    return float(fitting.gradients(theta, shapes(network), encoded, wanted, None)[0].mean())


def test_learned_weights_draw_other_pictures_after_a_few_steps() -> None:
    found = learned(RECIPE)
    before = Start(vector(made()), torch.full((3, len(vector(made()))), RECIPE.rate))
    assert validation(found) < 0.5 * validation(before)
    assert not torch.equal(found.rates, before.rates), "rates are learned, too"


def test_the_lowest_validation_loss_counts() -> None:
    """With a learning rate at which the loss rises again, too."""
    said: list[str] = []
    run = MemoryRun(POST_TRAINING)
    run.progress = said.append  # type: ignore[method-assign]
    recipe = Learning(20, lr=0.004, rate=1e-3, every=5)
    found = meta_learning.learned(made(), sine.coordinates(4, 4), drawn(5), drawn(3, salt=9), recipe, run)
    losses = [float(line.rpartition(" ")[2]) for line in said]
    assert len(losses) == 4 and validation(found) == pytest.approx(min(losses), abs=1e-4)


def test_learning_goes_on_after_an_interruption() -> None:
    saved: dict[str, Any] = {}
    learned(dataclasses.replace(RECIPE, steps=40), saved)
    assert saved[meta_learning.STAGE]["step"] == 40
    whole, resumed = learned(RECIPE), learned(RECIPE, saved)
    assert torch.equal(whole.weights, resumed.weights) and torch.equal(whole.rates, resumed.rates)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The task `thumbnails` with a picture that begins from learned weights, in an empty folder of references."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(
        trained, "path", lambda task, network: tmp_path / "references" / task / f"{network}.safetensors"
    )
    load = tasks.load

    def learn_from() -> tuple[tuple[int, int], Tensor, Tensor]:
        return (8, 12), drawn(3, 96), drawn(2, 96, salt=9)

    def meta(name: str, network: str) -> Any:
        found = load(name, network)
        return dataclasses.replace(found, start="thumbnails_16", learn_from=learn_from) if network == "china" else found  # type: ignore[type-var]

    monkeypatch.setattr(tasks, "load", meta)
    entry = {"source": "a test", "steps": 150, "share": 0.25, "start": {"steps": 6, "every": 3}}
    recipe = recipes.checked({"thumbnails": {"*": entry}}, "here")
    monkeypatch.setattr(params, "recipe", lambda task, network: recipes.of(recipe, task, network))
    return meta("thumbnails", "china")


def test_a_reference_is_trained_from_weights_that_are_learned_first(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    reference_training.train_all("thumbnails", ["china"], said.append)
    assert starts.recipe("thumbnails_16")["steps"] == 6 and any("thumbnails_16: trained" in line for line in said)
    assert not [*starts.path("").parents[2].rglob("*.pt")]
    assert total_score(own.reference(), own.train, own) > 12
    other = recipes.checked({"thumbnails": {"*": {"source": "a test", "steps": 5, "start": {"steps": 7}}}}, "here")
    trained.path("thumbnails", "china").unlink()
    monkeypatch.setattr(params, "recipe", lambda task, network: recipes.of(other, task, network))
    with pytest.raises(RateBenchError, match="another recipe"):
        reference_training.train_all("thumbnails", ["china"], said.append)


def test_a_start_without_pictures_to_learn_from_is_refused(own: Any) -> None:
    with pytest.raises(RateBenchError, match=r"thumbnails, flower has a start, but no pictures"):
        reference_training.train_all("thumbnails", ["flower"], lambda line: None)


def test_a_file_of_differences_holds_the_network(own: Any) -> None:
    """Bit for bit: initial weights and the coded difference. Such a file needs the weights that it names."""
    config = inr.Config(bits=(8, 6), iterations=20, steps=2, differences=True)
    with pytest.raises(TaskError, match="not learned yet"):
        starts.load("thumbnails_16")
    reference_training.train_all("thumbnails", ["china"], lambda line: None)
    assert inr.unsupported(own, config) is None
    points = list(inr.compress(own, config, MemoryRun(POST_TRAINING)))
    start = starts.load("thumbnails_16")
    for compressed in points:
        (part,) = compressed.parts
        state = blueprint.state(bitstream.decode(bitstream.encode(compressed)))
        for name, codes, step in zip(part.targets, part.data["codes"], part.data["steps"], strict=True):
            assert np.array_equal(state[name].numpy(), start[name].numpy() + codes.astype(np.float32) * step)
    data = bitstream.encode(points[0])
    reference = total_score(own.reference(), own.train, own)
    assert total_score(bitstream.decode(data), own.train, own) > reference - 1
    starts.path("thumbnails_16").unlink()
    with pytest.raises(BitstreamError, match="results/references/starts: put them there"):
        bitstream.decode(data)


def test_differences_need_learned_weights() -> None:
    config = inr.Config(differences=True)
    assert "random ones" in str(inr.unsupported(tasks.load("thumbnails", "flower"), config))


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", 7, None, "0123456789ABCDEF"])
def test_a_damaged_name_of_the_weights_is_a_sentence(digest: Any) -> None:
    with pytest.raises(BitstreamError, match="no hash: the file is damaged"):
        inr.CODECS["difference"].decode({"start": digest}, [b"", b""], [])


def test_weights_of_another_network_are_refused(own: Any) -> None:
    reference_training.train_all("thumbnails", ["china"], lambda line: None)
    digest = starts.digest(starts.load("thumbnails_16"))
    with pytest.raises(BitstreamError, match="other shapes"):
        inr.CODECS["difference"].decode({"start": digest}, [b"", b""], [(2, 2)])
    with pytest.raises(TaskError, match="another network"):
        starts.start("thumbnails_16", made())
    starts.path("thumbnails_16").with_suffix(".json").write_text("{}")
    with pytest.raises(TaskError, match="does not say how"):
        starts.recipe("thumbnails_16")


def archive(path: Path, sizes: list[tuple[int, int]]) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for number, (height, width) in enumerate(sizes):
            pixels = np.zeros((height, width, 3), np.uint8)
            pixels[: height // 2] = (200, 100, number)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            opened.writestr(f"DIV2K/{number:04d}.png", buffer.getvalue())
    return path


def test_photographs_are_laid_down_and_reduced(tmp_path: Path) -> None:
    """The upper half is coloured; turned to the left, that is the left half."""
    found = div2k.read(archive(tmp_path / "two.zip", [(600, 900), (900, 600)]), 2).view(2, *div2k.SIZE, 3)
    assert found[0, 100, 700].tolist() == [200, 100, 0] and found[0, 400, 10].tolist() == [0, 0, 0]
    assert found[1, 500, 100].tolist() == [200, 100, 1] and found[1, 10, 700].tolist() == [0, 0, 0]


def test_a_wrong_archive_of_photographs_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="1 photographs, not 800"):
        div2k.read(archive(tmp_path / "one.zip", [(20, 30)]), 800)
    data = archive(tmp_path / "one.zip", [(20, 30)]).read_bytes()
    for name, damaged in {"cut": data[:-30], "changed": data.replace(b"IDAT", b"IDAX"), "empty": b""}.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(TaskError, match="is damaged"):
            div2k.read(tmp_path / name, 1)
