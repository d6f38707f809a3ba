"""Files of ApproxConv: minifloats, kernels of coefficients, and what is stored how."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from test_approxconv import ALL, POST_TRAINING, SHORT, normal, points
from torch import nn

from benchmarks import bitstream, tasks
from benchmarks.bitstream.codecs import raw
from benchmarks.errors import BitstreamError
from methods import approxconv
from methods.approxconv import _parts, coding, minifloat
from methods.approxconv.bases import Approximation, approximated, filters
from methods.approxconv.layers import convolutions
from methods.approxconv.minifloat import OnMinifloat, round_tensor


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_minifloats_round_to_the_bits_that_they_have(bits: int) -> None:
    values = np.concatenate([normal(20000), normal(100) * 1e-12, normal(100) * 1e9, [0.0, 1.0, -2.0]]).astype(
        np.float32
    )
    codes, exponents = minifloat.rounded(values, bits)
    found = minifloat.values_of(codes, exponents, bits)
    assert np.abs(codes).max() == 2**bits - 1 and not found[-3] and found[-2:].tolist() == [1, -2]
    again = minifloat.values_of(*minifloat.rounded(found, bits), bits)
    assert np.array_equal(again, found)
    clamped = np.abs(values) * 2.0 ** (bits - 1 - exponents) > 2**bits - 0.5  # of 2^bits, which they can't have
    error = np.abs(found - values) / np.abs(values).clip(1e-30)
    assert error[~clamped].max() <= 2.0**-bits
    assert np.array_equal(round_tensor(torch.from_numpy(values), bits).numpy(), found)


def test_minifloat_examples_and_errors() -> None:
    assert minifloat.values_of(*minifloat.rounded(np.float32([1.97, 1.03]), 4), 4).tolist() == [1.875, 1.0]
    values = normal(100_000)
    for bits, rms in ((8, 0.0017), (6, 0.0068), (4, 0.028), (3, 0.060), (2, 0.131)):
        made = minifloat.values_of(*minifloat.rounded(values, bits), bits)
        assert np.sqrt(np.square(made - values).mean() / np.square(values).mean()) == pytest.approx(rms, rel=0.06)


def test_a_file_gives_minifloats_again() -> None:
    values = [normal(5, 3), np.zeros((4,), np.float32), np.float32(-3.3)]
    made = minifloat.encode(minifloat.part(["a", "b", "c"], values, 5, "weights"))
    streams = [stream for _, stream in made.streams]
    found = minifloat.decode(made.meta, streams, [(5, 3), (4,), ()])
    for value, decoded in zip(values, found, strict=True):
        assert np.array_equal(decoded, minifloat.values_of(*minifloat.rounded(value, 5), 5))
    with pytest.raises(BitstreamError, match="exponent or bits that none can have"):
        minifloat.decode({"bits": 3}, streams, [(5, 3), (4,), ()])
    with pytest.raises(BitstreamError, match="number of bits outside 2 to 16"):
        minifloat.decode({"bits": 17}, streams, [(5, 3), (4,), ()])
    with pytest.raises(BitstreamError, match="d holds NaN or infinite values"):
        minifloat.encode(minifloat.part(["d"], [np.float32([math.nan])], 5, "weights"))


def test_training_uses_minifloats_and_changes_the_values_before_rounding() -> None:
    layer, last = nn.Conv2d(2, 2, 1), nn.Linear(2, 2)
    network = nn.Sequential(layer, last)
    frozen = nn.Parameter(torch.rand(2, 2), requires_grad=False)
    network.register_parameter("frozen", frozen)
    before = copy.deepcopy(network)
    callback = OnMinifloat(network, 3)
    optimiser = torch.optim.SGD(network.parameters(), 1e-3)
    with torch.no_grad():
        callback.before_epoch(0, optimiser)
        exact = before[0].weight
        assert torch.equal(layer.weight, round_tensor(exact, 3)) and not torch.equal(layer.weight, exact)
        callback.before_step(optimiser)
        assert torch.equal(layer.weight, exact)
        layer.weight += 1e-4
        callback.after_step()
        assert torch.equal(layer.weight, round_tensor(exact + 1e-4, 3))
    assert torch.equal(last.weight, before[1].weight) and torch.equal(frozen, before.frozen)


# In the file


def coded(found: list[Approximation]) -> tuple[Any, list[bytes]]:
    names = [f"w{number}" for number in range(len(found))]
    inner = raw.part(names, [own.coefficients for own in found], "weights")
    made = coding.encode(coding.part(names, found, inner))
    return made.meta, [stream for _, stream in made.streams]


@pytest.mark.parametrize("kind", ALL)
def test_a_file_gives_kernels_of_its_coefficients(kind: Any) -> None:
    kernels = [normal(3, 2, 3, 3), normal(2, 1, 7, 7)]
    found = [approximated(kernel, kind, order) for kernel, order in zip(kernels, (2, 5), strict=True)]
    meta, streams = coded(found)
    decoded = coding.decode(meta, streams, [kernel.shape for kernel in kernels])
    for own, made in zip(found, decoded, strict=True):
        rounded = Approximation(own.coefficients.astype(np.float32), kind, own.size, own.own)
        assert np.array_equal(made, rounded.kernel())
    assert sum(map(len, streams)) == 4 * (6 * 4 + 2 * 25 + (4 * 9 + 25 * 49 if kind == "pca" else 0))


@pytest.mark.parametrize(
    "change",
    [{"kind": "sine"}, {"codec": "sparse"}, {"kind": "pca"}, {"orders": [4]}, {"orders": [0]}, {"orders": [2.0]}],
)
def test_a_damaged_part_is_refused(change: dict[str, Any]) -> None:
    meta, streams = coded([approximated(normal(3, 2, 3, 3), "cosine", 2)])
    with pytest.raises(BitstreamError, match="damaged"):
        coding.decode({**meta, **change}, streams, [(3, 2, 3, 3)])


@pytest.mark.parametrize(("order", "shape"), [(64, (1, 1, 64, 64)), (17, (1, 1, 17, 17)), (16, (2**10, 2**10, 16, 16))])
@pytest.mark.parametrize("kind", ["cosine", "pca"])
def test_kernels_that_take_too_much_are_refused_before_they_are_computed(kind: Any, order: int, shape: Any) -> None:
    meta, _ = coded([approximated(normal(1, 1, 3, 3), "cosine", 2)])
    streams = [b""] * (1 + (kind == "pca"))
    with pytest.raises(BitstreamError, match=r"no approximation|terms in its sums"):
        coding.decode({**meta, "kind": kind, "orders": [order]}, streams, [shape])


def test_the_encoder_writes_nothing_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BitstreamError, match="windows of 16 pixels a side"):
        coded([approximated(normal(1, 1, 17, 17), "cosine", 2)])
    found = [approximated(normal(2, 3, 5, 5), "cosine", 3)]
    monkeypatch.setattr(coding, "MOST", 2 * 3 * 150)
    meta, streams = coded(found)
    assert len(coding.decode(meta, streams, [(2, 3, 5, 5)])) == 1
    monkeypatch.setattr(coding, "MOST", 2 * 3 * 150 - 1)
    with pytest.raises(BitstreamError, match="terms in all sums"):
        coded(found)
    with pytest.raises(BitstreamError, match="terms in its sums"):
        coding.decode(meta, streams, [(2, 3, 5, 5)])


def test_the_file_has_coefficients_instead_of_kernels() -> None:
    """Four bytes for each value that the paper counts besides BatchNorm; little is added to that."""
    (dense, point) = (
        points(approxconv.Config(points=(orders_,), form=form))[0]  # type: ignore[arg-type]
        for orders_, form in (((3, 3, 3, 2), "kernels"), ((2, 2, 2, 2), "channels"))
    )
    for made in (dense, point):
        data = bitstream.encode(made)
        values = sum(w.numel() for w in tasks.load("digits", "digits_resnet").reference().parameters() if w.ndim == 1)
        assert bitstream.bytes_by_role(data)["weights"] == 4 * (made.notes["parameters"] - values)


@pytest.mark.parametrize("form", ["kernels", "channels"])
def test_linear_layers_stay_exact_beside_minifloats(form: Any) -> None:
    task = tasks.load("digits", "digits_resnet")
    network = task.reference()
    config = approxconv.Config(storage="minifloat", bits=3, form=form)
    layers = convolutions(network)
    found = {"layer3.0.conv1": approximated(layers["layer3.0.conv1"].weight.detach().numpy(), "cosine", 2)}
    slim = approxconv._channels(layers, found, config)
    assert bool(slim.edits) == (form == "channels")
    network = slim.realise(task, network)
    stored = {part.codec: part.targets for part in _parts(network, found, slim, config)}
    assert stored["raw"] == ("linear.weight",) and "conv1.weight" in stored["approxconv.minifloat"]
    assert ("layer3.0.conv1.coefficients" in stored["approxconv.minifloat"]) == (form == "channels")


@pytest.mark.parametrize("storage", ["float32", "uniform", "minifloat"])
def test_trained_coefficients_are_stored(storage: Any) -> None:
    config = approxconv.Config(points=((3, 3, 2),), storage=storage, bits=6)
    before, after = (
        bitstream.decode(bitstream.encode(points(config, budget, "digits_cnn")[0])) for budget in (POST_TRAINING, SHORT)
    )
    path = "7.weight"
    basis = filters("cosine", 2, 3)
    project = np.linalg.pinv(basis) @ basis
    kernel = after.get_parameter(path).numpy()
    assert not np.array_equal(kernel, before.get_parameter(path).numpy())
    assert kernel.reshape(-1, 9) @ project == pytest.approx(kernel.reshape(-1, 9), abs=1e-5)
