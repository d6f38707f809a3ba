"""Image coding: the tasks, networks that draw pictures, pictures that other codecs compressed, and files written as PNG."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_runner
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_every_method import POST_TRAINING, MemoryRun, curve
from test_runner import Laboratory
from test_untouched import traits

import methods
from benchmarks import bitstream, networks, tasks
from benchmarks.bitstream import codecs
from benchmarks.bitstream.codecs import verbatim
from benchmarks.errors import BitstreamError, TaskError
from benchmarks.evaluation import drawing, measure, scoring
from benchmarks.networks import sine
from benchmarks.running.cell import Cell
from benchmarks.tasks import kodak, thumbnails
from methods.families import pictures
from methods.interface import Compressed

laboratory = test_runner.laboratory
CODECS = ("jpeg", "jpeg2000", "webp", "avif")


def photograph(name: str) -> Any:
    """A task of real data, or a skip with the reason."""
    task: Any = tasks.load("kodak", name)
    try:
        task.train  # noqa: B018
    except TaskError as error:
        pytest.skip(str(error))
    return task


def saved(form: str, size: tuple[int, int], mode: str = "RGB") -> bytes:
    """A flat picture of (height, width) as another program writes it."""
    buffer = io.BytesIO()
    Image.new(mode, size[::-1], 128).save(buffer, form)
    return buffer.getvalue()


def coded(data: bytes, form: str = "jpeg", size: tuple[int, int] = (4, 6)) -> bytes:
    arguments = {"form": form, "size": list(size), "length": len(data)}
    return bitstream.encode(Compressed("picture", arguments, (verbatim.part("data", data),), {}))


@pytest.mark.parametrize(("width", "values"), [(32, 5_411), (48, 10_419), (64, 16_963), (128, 58_499)])
def test_networks_have_as_many_values_as_the_papers(width: int, values: int) -> None:
    (name,) = (n for n in ("kodim07", f"kodim07_{width}") if kodak.NETWORKS.get(n) == (7, width))
    with torch.device("meta"):
        network = networks.build("sine", kodak.task(name).arguments)
    assert sum(parameter.numel() for parameter in network.parameters()) == values
    assert all(kodak.NETWORKS[f"kodim07{end}"] == (7, 32) for end in ("", "_short", "_tiny"))


def test_the_encoding_has_the_papers_order() -> None:
    """Wrong code that this finds: column before row, sines after cosines, frequencies that start at 2."""
    row, column = 0.3, -0.7
    expected = [row, column]
    for i in range(16):
        for value in (row, column):
            expected += [math.sin(1.4**i * math.pi * value), math.cos(1.4**i * math.pi * value)]
    found = sine.Encoding(16)(torch.tensor([[row, column]]))
    assert found.shape == (1, 2 + 4 * 16)
    assert found[0].tolist() == pytest.approx(expected, abs=1e-4)


def test_corners_have_coordinates_of_one() -> None:
    found = sine.coordinates(3, 5)
    assert found.shape == (15, 2)
    assert found[[0, 4, 10, 14]].tolist() == [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    assert found[1].tolist() == [-1, -0.5] and sine.coordinates(1, 2).tolist() == [[0, -1], [0, 1]]


def test_initial_weights_are_sirens() -> None:
    network = networks.build("sine", {"size": [4, 4], "width": 64, "frequencies": 16})
    first, second, *_, last = (m for m in network.modules() if isinstance(m, torch.nn.Linear))
    for layer, bound in ((first, 1 / 66), (second, math.sqrt(6 / 64) / 30), (last, math.sqrt(6 / 64) / 30)):
        assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound
    assert float(second.bias.detach().abs().max()) > math.sqrt(6 / 64) / 30, "biases are PyTorch's"


def test_blocks_change_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    network = networks.build("sine", {"size": [9, 11], "width": 8, "frequencies": 3})
    x = sine.coordinates(9, 11)[None]
    whole = network(x)
    monkeypatch.setattr(sine, "BLOCK", 13)
    assert whole.shape == (1, 99, 3)
    torch.testing.assert_close(network(x), whole)
    torch.testing.assert_close(network(x[:, :5]), whole[:, :5])


@pytest.mark.parametrize(
    "changes",
    [
        {"size": [0, 4]},
        {"size": [4]},
        {"size": 4},
        {"size": [4, 2**14]},
        {"width": 0},
        {"width": 4096},
        {"width": True},
        {"frequencies": -1},
        {"frequencies": 10**6},
        {"frequencies": 1.5},
    ],
)
def test_a_sine_network_out_of_bounds_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(networks.NetworkError, match=r"ha(s|ve) to be"):
        networks.build("sine", {"size": [4, 4], "width": 8, "frequencies": 2} | changes)


@pytest.mark.parametrize(
    "changes",
    [{"form": "gif"}, {"size": [0, 4]}, {"size": [2**13, 2**13]}, {"size": "ab"}, {"length": 0}, {"length": 2**40}],
)
def test_a_coded_picture_out_of_bounds_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(networks.NetworkError, match="has to be"):
        networks.build("picture", {"form": "jpeg", "size": [4, 6], "length": 10} | changes)


def test_scores_are_the_fields_psnr() -> None:
    """Clipped, not rounded, over all values; wrong code that this finds: a peak of 2, rounding, whole numbers that overflow."""
    task = thumbnails.task("china")
    targets = torch.tensor([[[0, 128, 255], [255, 255, 10]]], dtype=torch.uint8)
    exact = targets / 127.5 - 1
    outputs = exact.clone()
    outputs[0, 0, 1] += 0.1
    outputs[0, 0, 2] += 5.0  # is clipped
    expected = -10 * math.log10(0.05**2 / 6)
    assert task.scores(outputs, targets)["psnr"].tolist() == [pytest.approx(expected, abs=1e-4)]
    assert task.scores(exact, targets)["psnr"].tolist() == [100]
    assert float(task.loss(outputs, targets)) == pytest.approx((0.1**2 + 5**2) / 6)


def test_the_embedded_photographs_are_means_of_blocks() -> None:
    split = thumbnails.task("flower").train
    assert split.inputs.shape == (1, 64 * 96, 2) and split.targets.shape == (1, 64 * 96, 3)
    whole = thumbnails.load_sample_image("flower.jpg")[6:12, 12:18].reshape(-1, 3).mean(0)
    assert split.targets[0, 96 + 2].tolist() == whole.round().tolist()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (saved("PNG", (512, 512)), r"x\.png is 512 × 512 pixels in mode RGB, not 768 × 512 in RGB: fetch it again"),
        (saved("PNG", (512, 768), "L"), r"x\.png is 768 × 512 pixels in mode L, not 768 × 512 in RGB"),
        (saved("JPEG", (512, 768)), r"x\.png is no readable PNG"),
        (saved("PNG", (512, 768))[:200], r"x\.png is no readable PNG"),
        (b"", r"x\.png is no readable PNG"),
    ],
    ids=["size", "mode", "format", "truncated", "empty"],
)
def test_another_png_is_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(TaskError, match=sentence) as caught:
        kodak.pixels(data, (512, 768), "x.png")
    assert "\n" not in str(caught.value)


def test_upright_photographs_keep_their_shape() -> None:
    for name in ("kodim04", "kodim05"):
        task = photograph(name)
        number = kodak.NETWORKS[name][0]
        with Image.open(kodak.download.fetch(kodak.kodak.FILES[number - 1])) as image:
            expected = np.asarray(image)
        assert np.array_equal(task.train.targets.view(*task.size, 3).numpy(), expected)
        assert task.uncompressed_bytes == 3 * 512 * 768


@pytest.mark.parametrize("form", CODECS)
def test_a_file_decodes_to_the_pixels_of_the_codec(form: str, tmp_path: Path) -> None:
    if reason := methods.get(form).unsupported(tasks.load("thumbnails", "china"), methods.get(form).Config()):
        pytest.skip(reason)
    task: Any = tasks.load("thumbnails", "china")
    compressed, data = curve(form)[0]
    (part,) = compressed.parts
    (tmp_path / "x").write_bytes(part.data["data"])
    with Image.open(tmp_path / "x") as image:
        expected = np.asarray(image)
    network = bitstream.decode(data)
    assert np.array_equal(drawing.drawn(network).numpy(), expected)
    error = ((expected / 255.0 - task.train.targets.view(64, 96, 3).numpy() / 255.0) ** 2).mean()
    found = scoring.scores(network, task.train, task)["psnr"]
    assert found.tolist() == [pytest.approx(-10 * math.log10(error), abs=1e-3)]


@pytest.mark.parametrize("form", CODECS)
def test_a_codec_that_pillow_lacks_is_a_sentence(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures.features, "check", lambda _: False)
    method = methods.get(form)
    found = method.unsupported(tasks.load("thumbnails", "china"), method.Config())
    assert found == f"Pillow has no {form} here: install a build of Pillow that has it"


def test_other_pixels_are_asked_for_one_by_one() -> None:
    """In a batch, items may ask for different pixels; between pixels, the nearest answers."""
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=True)
    network = bitstream.decode(coded(buffer.getvalue(), "webp"))
    x = sine.coordinates(4, 6)[None]
    batch = torch.cat([x, x.flip(1), x + 0.05])
    found = ((network(batch) + 1) * 127.5).round().numpy()
    assert np.array_equal(found[0], image.reshape(-1, 3)) and np.array_equal(found[1], image.reshape(-1, 3)[::-1])
    assert np.array_equal(found[2], found[0])
    assert torch.equal(network(torch.cat([x, x])), network(x).expand(2, -1, -1))


@pytest.mark.parametrize(
    ("data", "form", "sentence"),
    [
        (
            saved("JPEG", (4, 7)),
            "jpeg",
            "its picture is of 7 × 4 pixels in mode RGB, not 6 × 4 in RGB as the file says",
        ),
        (saved("JPEG", (4, 6), "L"), "jpeg", "its picture is of 6 × 4 pixels in mode L"),
        (saved("JPEG", (4, 6)), "webp", "its bytes are no valid webp picture"),
        (saved("JPEG", (4, 6))[:-30], "jpeg", "its bytes are no valid jpeg picture"),
        (b"\x00" * 40, "avif", "its bytes are no valid avif picture"),
        (saved("JPEG2000", (4, 6))[:80], "jpeg2000", "its bytes are no valid jpeg2000 picture"),
    ],
    ids=["size", "mode", "form", "truncated", "zeros", "header only"],
)
def test_a_hostile_picture_is_a_sentence(data: bytes, form: str, sentence: str) -> None:
    network = bitstream.decode(coded(data, form))
    with pytest.raises(BitstreamError, match=sentence) as caught:
        drawing.drawn(network)
    assert "\n" not in str(caught.value)


def test_the_size_is_checked_before_pixels_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    network = bitstream.decode(coded(saved("JPEG", (300, 400))))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BitstreamError, match="400 × 300"):
        drawing.drawn(network)


@given(st.binary(max_size=400))
def test_verbatim_bytes_come_back(data: bytes) -> None:
    part = verbatim.part("data", data)
    written = verbatim.encode(part)
    (found,) = verbatim.decode(written.meta, [stream for _, stream in written.streams], [(len(data),)])
    assert found.dtype == np.uint8 and found.tobytes() == data and codecs.get(part.codec) is verbatim


@pytest.mark.parametrize("shape", [(), (3,), (5,), (2, 2)])
def test_verbatim_bytes_for_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BitstreamError, match="a stream of 4 bytes is to fill a tensor"):
        verbatim.decode({}, [b"abcd"], [shape])


@pytest.mark.parametrize("name", ["sine", "picture"])
def test_scoring_leaves_a_network_as_it_was(name: str) -> None:
    task: Any = tasks.load("thumbnails", "china")
    network = task.reference() if name == "sine" else bitstream.decode(curve("jpeg")[0][1])
    before = traits(network)
    scoring.scores(network, task.train, task)
    measure.latency_ms(network, task.train.inputs, 2, 0.0)
    drawing.drawn(network)
    assert traits(network) == before
    if name == "sine":
        task.loss(network(task.train.inputs), task.train.targets).backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_file_is_written_as_png(laboratory: Laboratory) -> None:
    place = laboratory.folder / "china"
    place.with_suffix(".rbn").write_bytes(curve("coin")[0][1])
    assert laboratory.ratebench("decode", str(place.with_suffix(".rbn")), "--to", str(place.with_suffix(".png"))) == 0
    task: Any = tasks.load("thumbnails", "china")
    colours = ((task.reference()(task.train.inputs) + 1) * 127.5).round().clamp(0, 255)
    with Image.open(place.with_suffix(".png")) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (96, 64), "RGB")
        assert np.array_equal(np.asarray(image).reshape(-1, 3), colours[0].detach().numpy().astype(np.uint8))


def test_a_file_without_a_picture_is_a_sentence(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    file, target = laboratory.folder / "x.rbn", laboratory.folder / "x.png"
    file.write_bytes(curve("reference")[0][1])
    assert laboratory.ratebench("decode", str(file), "--to", str(target)) == 1 and not target.exists()
    said = "x.rbn: it holds a network that draws no picture: write its tensors, to a name that ends in .safetensors"
    assert said in capsys.readouterr().err
    file.write_bytes(coded(saved("JPEG", (4, 7))))
    assert laboratory.ratebench("decode", str(file), "--to", str(target)) == 1 and not target.exists()
    assert "x.rbn: its picture can't be drawn: its picture is of 7 × 4 pixels" in capsys.readouterr().err


def test_methods_of_pictures_refuse_other_tasks() -> None:
    for key in ("inr", "coin", *CODECS):
        cell = Cell("digits", "digits", "digits_cnn", key, {}, POST_TRAINING, 0)
        assert cell.unsupported() == "works on image coding, not on image classification"


@pytest.mark.parametrize(
    ("form", "setting", "bits", "least"),
    [
        ("jpeg", {"qualities": (50,)}, 0.6, 34.4),
        ("jpeg2000", {"rates": (48.0,)}, 0.51, 36.5),
        ("webp", {"qualities": (30,)}, 0.25, 33.0),
        ("avif", {"qualities": (40,)}, 0.26, 34.5),
    ],
)
def test_codecs_reach_their_quality_on_a_real_photograph(
    form: str, setting: dict[str, Any], bits: float, least: float
) -> None:
    """Wrong code that this finds: colours that are not transformed (JPEG 2000 loses 8 dB), or a lossless mode."""
    task, method = photograph("kodim03"), methods.get(form)
    if reason := method.unsupported(task, method.Config()):
        pytest.skip(reason)
    (point,) = method.compress(task, method.Config(**setting), MemoryRun(POST_TRAINING))
    data = bitstream.encode(point)
    score = float(scoring.scores(bitstream.decode(data), task.train, task)["psnr"])
    assert 8 * len(data) / (512 * 768) < bits and score > least
