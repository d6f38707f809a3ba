"""Whole files: goldens, a fresh process, roles, edits, shared tensors, and every reason why a file can't be written."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from goldens import hostile, samples
from goldens.hostile import built, deflated, packb, sealed
from goldens.samples import FOLDER, SAMPLES, digest, whole
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmarks import registry
from benchmarks.bitstream import blueprint, bytes_by_role, codecs, container, decode, encode, keys
from benchmarks.bitstream.codecs import constant, raw, uniform
from benchmarks.bitstream.modules import conv2d, gather, identity, linear, sequential
from benchmarks.errors import BitstreamError, UnknownName
from methods.interface import Coded, Compressed, ModuleSpec, Part

HASHES = FOLDER / "goldens.json"
# As encoders of this format version wrote them before all codecs coded integers by context.
EARLIER = [path.stem for path in sorted(FOLDER.glob("*-earlier.rbn"))]
ATOMS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
ATOMS |= st.text(max_size=300) | st.binary(max_size=300) | st.builds(msgspec.msgpack.Ext, st.just(5), st.binary())
VALUES = st.recursive(ATOMS, lambda own: st.lists(own) | st.dictionaries(st.text(max_size=40), own), max_leaves=30)


def described(name: str) -> Compressed:
    """A sample; skips the test where the method that brings its codec is not installed."""
    if "." in name:
        try:
            codecs.get(name.partition("-")[0])
        except (UnknownName, ImportError) as error:
            pytest.skip(str(error))
    return SAMPLES[name]()


def forward(network: nn.Module) -> torch.Tensor:
    return network(torch.arange(128.0).reshape(2, 1, 8, 8) / 64 - 1)


def hashes() -> dict[str, str]:
    return json.loads(HASHES.read_text()) if HASHES.exists() else {}


@pytest.mark.parametrize("name", SAMPLES)
def test_encoder_writes_the_golden_file_to_the_byte(name: str) -> None:
    data = encode(described(name))
    if os.environ.get("GENERATE_GOLDENS"):
        (FOLDER / f"{name}.rbn").write_bytes(data)
        HASHES.write_text(json.dumps(hashes() | {name: digest(decode(data))}, indent=1, sort_keys=True) + "\n")
    assert data == (FOLDER / f"{name}.rbn").read_bytes()


@pytest.mark.parametrize("name", [*SAMPLES, *EARLIER])
def test_decoder_reads_the_golden_file(name: str) -> None:
    described(name.removesuffix("-earlier"))
    network = decode((FOLDER / f"{name}.rbn").read_bytes())
    assert digest(network) == hashes()[name]
    assert torch.isfinite(forward(network)).all()


def test_every_codec_of_the_suite_has_a_golden_file() -> None:
    files = {path.stem for path in FOLDER.glob("*.rbn")}
    assert set(registry.names("benchmarks.bitstream.codecs")) <= files == {*SAMPLES, *EARLIER} == set(hashes())


def test_fresh_process_decodes_the_same_tensors(fresh_python: Callable[..., str]) -> None:
    code = """
import sys
from pathlib import Path
from goldens.samples import digest
from benchmarks.bitstream import decode
for path in sys.argv[1:]:
    print(digest(decode(Path(path).read_bytes())))
"""
    names = [name for name in SAMPLES if "." not in name]
    printed = fresh_python(code, *(FOLDER / f"{name}.rbn" for name in names))
    assert printed.split() == [hashes()[name] for name in names]


@pytest.mark.parametrize("name", SAMPLES)
def test_bytes_by_role_sum_to_the_length_of_the_file(name: str) -> None:
    data = encode(described(name))
    roles = bytes_by_role(data)
    assert sum(roles.values()) == len(data)
    assert roles["header"] >= 18
    assert all(size >= 0 for size in roles.values())


def test_bytes_by_role_names_what_is_stored() -> None:
    roles = bytes_by_role(encode(SAMPLES["raw"]()))
    assert roles["weights"] == 4 * (8 * 4 * 9 + 10 * 8)
    assert roles["norm_bias"] == 2 * (4 * 9 + 8 * 8 * 9 + 4 * (4 + 8 + 8) + 10)


def test_decoding_leaves_the_global_random_state_alone() -> None:
    files = [encode(SAMPLES[name]()) for name in ("raw", "edits", "tied", "index")]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    np_before = np.random.get_state()[1].tolist()  # noqa: NPY002
    for data in files:
        decode(data)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == np_before  # noqa: NPY002


def test_reproduction_is_ready_for_scoring() -> None:
    network = decode(encode(SAMPLES["uniform"]()))
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad for p in network.parameters())
    assert {t.device.type for t in network.state_dict().values()} == {"cpu"}
    counters = [b for n, b in network.named_buffers() if n.endswith("num_batches_tracked")]
    assert [int(c) for c in counters] == [0, 0, 0]


def test_edits_replace_modules() -> None:
    network = decode(encode(SAMPLES["edits"]()))
    assert [type(network[i]) for i in (0, 2, 3)] == [nn.Conv2d, nn.Identity, nn.Sequential]
    assert (network[0].out_channels, network[1].num_features) == (3, 3)
    assert [tuple(factor.weight.shape) for factor in network[3]] == [(2, 3, 3, 1), (8, 2, 1, 3)]
    assert network[3][0].padding == (1, 0)
    assert forward(network).shape == (2, 10)


def test_gather_selects_channels() -> None:
    network = decode(encode(SAMPLES["index"]()))
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network[2](x), x[:, [2, 0, 3, 1]])


def test_gather_fills_with_channels_of_zeros() -> None:
    chosen = gather.Gather(3)
    chosen.index.copy_(torch.tensor([4, 1, 4]))
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(chosen(x), torch.stack([0 * x[:, 0], x[:, 1], 0 * x[:, 0]], 1))


def test_joined_convolutions_share_a_piece_of_their_kernels() -> None:
    network = decode(encode(SAMPLES["joined"]()))
    shared, second, last = network[3].weights[0], network[3], network[7]
    assert last.weights[0] is shared
    x = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    kernel = torch.cat([shared, second.weights[1]], 1)
    assert torch.equal(second(x), nn.functional.conv2d(x, kernel, padding=1))
    assert network[2](x).shape == (1, 4, 5, 5) and last(second(x)).shape == (1, 8, 5, 5)
    assert sum(p.numel() for n, p in network.named_parameters() if "weights" in n) == 9 * (4 * 4 + 8 * 4 + 8 * 5)


@pytest.mark.parametrize(
    "change", [{"axis": 2}, {"pieces": ()}, {"pieces": (4, 0)}, {"channels": 0}, {"stride": (0, 1)}]
)
def test_impossible_joined_convolutions_are_refused(change: dict[str, Any]) -> None:
    sample = SAMPLES["joined"]()
    broken = ModuleSpec("JoinedConv2d", {**sample.edits["2"].arguments, **change})
    with pytest.raises(BitstreamError, match="module '2' can't be built as JoinedConv2d"):
        blueprint.skeleton(sample.architecture, sample.arguments, {"2": broken}, {})


def test_tied_paths_share_one_parameter_that_is_stored_once() -> None:
    tied, free = encode(SAMPLES["tied"]()), encode(whole([]))
    network = decode(tied)
    assert network[8].weight is network[4].weight
    assert network[4].bias is network[8].bias
    assert network[4].running_var is not network[8].running_var
    assert bytes_by_role(free)["norm_bias"] - bytes_by_role(tied)["norm_bias"] == 2 * (8 + 8)


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_steps_that_overflow_fp32_are_refused() -> None:
    part = uniform.part(["12.bias"], [np.full(10, 1 << 60)], [2.0**100], "norm_bias")
    with pytest.raises(BitstreamError, match=r"12\.bias decodes to NaN or infinite"):
        decode(encode(whole([part])))


def test_part_of_another_shape_is_refused() -> None:
    with pytest.raises(BitstreamError, match="holds 9 values where its tensors need 10"):
        decode(encode(whole([raw.part(["12.bias"], [np.zeros(9)], "norm_bias")])))


def test_header_that_the_decoder_would_refuse_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_HEADER", 300)
    with pytest.raises(BitstreamError, match="put large data into streams"):
        encode(SAMPLES["sparse"]())


@pytest.mark.parametrize("key", [0, 1.5, None, True, b"a", (1.0, 2.0), (1.0, ("a",)), ()])
@pytest.mark.parametrize("place", ["arguments", "meta", "module"])
def test_keys_that_are_not_text_are_refused_before_they_are_hashed(key: Any, place: str) -> None:
    value = {"a": [1, {"b": {key: 1}}]}
    meta, edits = {"value": 0.5}, {}
    if place == "module":
        edits = {"2": built("Identity", x=value)}
    parts = [["constant", hostile.TARGETS, meta | ({"x": value} if place == "meta" else {}), []]]
    arguments = hostile.ARGUMENTS | ({"x": value} if place == "arguments" else {})
    data = sealed(deflated(packb([hostile.ARCHITECTURE, arguments, edits, {}, parts])))
    for reads in (decode, bytes_by_role):
        with pytest.raises(
            BitstreamError, match=r"^the header has a map with a key that is not text, which no file may have$"
        ):
            reads(data)


def test_keys_that_are_not_text_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = SimpleNamespace(encode=lambda part: Coded({"layers": {1: 2}}, ()))
    monkeypatch.setattr(codecs, "get", lambda name: codec)
    with pytest.raises(BitstreamError, match="a key that is not text, which no file may have"):
        encode(whole([constant.part(["12.bias"], 0, "weights")]))


@given(VALUES)
def test_the_check_of_keys_accepts_what_the_decoder_reads_and_nothing_with_other_keys(value: Any) -> None:
    keys.check_keys(packb(value))
    for other in (1, None, (1.0,), b"a"):
        for around in ({"a": [value], other: value}, [value, {"a": value, "b": {other: value}}]):
            with pytest.raises(BitstreamError, match="not text"):
                keys.check_keys(packb(around))


def test_a_file_of_its_first_fields_alone_names_its_version() -> None:
    with pytest.raises(BitstreamError, match="the file has format version 9"):
        decode(sealed(b"", version=9))
    with pytest.raises(BitstreamError, match="the file ends inside its first fields"):
        decode(sealed(b"", version=9)[:-1])


def test_part_with_an_unknown_codec_is_not_written() -> None:
    with pytest.raises(UnknownName, match="unknown codec 'uniforn': did you mean 'uniform'"):
        encode(whole([Part("uniforn", ("12.bias",), "weights", {})]))


def without(compressed: Compressed, target: str) -> Compressed:
    parts = [dataclasses.replace(p, targets=tuple(t for t in p.targets if t != target)) for p in compressed.parts]
    return dataclasses.replace(compressed, parts=tuple(parts))


def with_part(*targets: str) -> Compressed:
    compressed = whole([])
    return dataclasses.replace(compressed, parts=(*compressed.parts, constant.part(targets, 1.0, "weights")))


@pytest.mark.parametrize(
    ("compressed", "complaint"),
    [
        (without(whole([]), "7.weight"), "not filled by any part: 7.weight"),
        (dataclasses.replace(whole([]), parts=()), "not filled by any part: 0.weight, 1.weight, 1.bias and 14 more"),
        (with_part("7.weight"), "filled more than once: 7.weight"),
        (whole([constant.part(["12.bias", "12.bias"], 0, "weights")]), "filled more than once: 12.bias"),
        (with_part("13.weight"), "not in the network: 13.weight"),
        (with_part("1.num_batches_tracked"), "not in the network: 1.num_batches_tracked"),
        (with_part(), "a part fills no tensor"),
        (whole([constant.part(["8.weight"], 1, "weights")], tied={"4.weight": "8.weight"}), None),
        (whole([constant.part(["4.weight"], 1, "weights")], tied={"4.weight": "8.weight"}), "not in the network: 4"),
    ],
)
def test_every_tensor_is_the_target_of_exactly_one_part(compressed: Compressed, complaint: str | None) -> None:
    if complaint is None:
        decode(encode(compressed))
    else:
        with pytest.raises(BitstreamError, match=complaint):
            encode(compressed)


LINEAR = {"in_features": 8, "out_features": 10}
DEEP = identity.spec()
for _ in range(blueprint.MAX_DEPTH + 1):
    DEEP = sequential.spec(DEEP)


@pytest.mark.parametrize(
    ("path", "spec", "complaint"),
    [
        ("2", ModuleSpec("Dropout"), "module '2' can't be built: unknown kind of module 'Dropout'"),
        ("2", ModuleSpec("os.system", {"command": "true"}), "module '2' can't be built: unknown method 'os'"),
        ("2", sequential.spec(ModuleSpec("Lambda")), "unknown kind of module 'Lambda'"),
        ("2", DEEP, "nested more than 32 deep"),
        ("12", ModuleSpec("Linear", LINEAR | {"device": 0}), "as Linear: it takes no argument 'device'"),
        (
            "12",
            linear.spec(8, 2**20 + 1),
            "as Linear: out_features has to be an integer from 1 to 1048576, not 1048577",
        ),
        ("12", ModuleSpec("Linear", LINEAR, children=(identity.spec(),)), "as Linear: it takes no child modules"),
        ("12", linear.spec(2**20, 2**20), "the network promises 10995"),
        ("0", conv2d.spec(3, 4, kernel_size=1, groups=2), "as Conv2d: in_channels must be divisible by groups"),
        ("0", conv2d.spec(3, 4, kernel_size=1, stride=2, padding="same"), "as Conv2d: padding='same' is not supported"),
        ("13", identity.spec(), "module '13', which digits_cnn does not have"),
        ("2.weight", identity.spec(), "module '2.weight', which"),
        ("0.weight", identity.spec(), "module '0.weight', which"),
        ("", identity.spec(), "module '', which"),
        ("__class__", identity.spec(), "module '__class__', which"),
        ("a.b.c", identity.spec(), "names 'a.b.c', which the network does not have"),
    ],
)
def test_edit_that_can_not_be_made_is_refused(path: str, spec: ModuleSpec, complaint: str) -> None:
    with pytest.raises(BitstreamError, match=complaint):
        encode(Compressed(samples.ARCHITECTURE, samples.ARGUMENTS, (), {}, {path: spec}))


@pytest.mark.parametrize(
    "tied",
    [
        {"4.weight": "4.weight"},
        {"4.weight": "8.weight", "8.weight": "4.weight"},
        {"4.weight": "8.weight", "8.weight": "4.bias"},
        {"4.weight": "1.weight"},
        {"4.running_mean": "8.running_mean"},
        {"4.weight": "8.running_mean"},
        {"4.weight": "9.weight"},
        {"4.weight": "a.b.weight"},
        {"": "4.weight"},
    ],
)
def test_ties_that_are_not_of_free_parameters_of_one_shape_are_refused(tied: Mapping[str, str]) -> None:
    with pytest.raises(BitstreamError, match=r"ties|does not have"):
        encode(Compressed(samples.ARCHITECTURE, samples.ARGUMENTS, (), {}, {}, tied))


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("digits_cn", {}),
        ("..", {}),
        ("digits_cnn", {"width": 257}),
        ("digits_cnn", {"width": "4"}),
        ("digits_cnn", {"height": 4}),
        ("cifar_resnet", {"depth": 10**9}),
        ("cifar_resnet", {"depth": 20, "classes": 2**60}),
    ],
)
def test_unknown_architecture_or_argument_is_refused(architecture: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(BitstreamError, match="architecture"):
        encode(Compressed(architecture, arguments, (), {}))


def test_a_tensor_without_axes_is_filled() -> None:
    scale = torch.zeros(())
    container._fill(scale, np.array(2.5, np.float32), "scale")
    assert scale == 2.5
