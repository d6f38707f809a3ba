"""Files with a valid checksum that promise too much or break a rule, and the pieces that such files are built from."""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Any

import msgspec
from goldens.samples import ARCHITECTURE, ARGUMENTS

from benchmarks.bitstream import blueprint, container
from benchmarks.bitstream.bytesio import join_blocks, varints

MiB = 2**20
TARGETS = list(blueprint.state(blueprint.skeleton(ARCHITECTURE, ARGUMENTS, {}, {})))
SMALL = {"in_channels": 1, "out_channels": 4, "kernel_size": 3}
JOINED = {"channels": 2**20, "pieces": [4], "axis": 0, "kernel_size": 1, "stride": 1, "padding": 0}
packb = msgspec.msgpack.encode


def sealed(packed: bytes, payload: bytes = b"", version: int = container.VERSION) -> bytes:
    """A file around a deflated header, with a valid checksum."""
    body = struct.pack("<4sHI", container.MAGIC, version, len(packed)) + packed + payload
    return body + hashlib.blake2b(body, digest_size=8).digest()


def deflated(plain: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return packer.compress(plain) + packer.flush()


def opened(data: bytes) -> tuple[list[Any], bytes]:
    """The header of a file as plain lists and dicts, and its payload."""
    (length,) = struct.unpack_from("<I", data, 6)
    header = msgspec.msgpack.decode(zlib.decompress(data[10 : 10 + length], -15))
    return header, data[10 + length : -8]


def described(**changes: Any) -> bytes:
    """A file without payload whose header is valid but for `changes`."""
    fields = {"architecture": ARCHITECTURE, "arguments": ARGUMENTS, "edits": {}, "tied": {}, "parts": []}
    fields["parts"] = [["constant", changes.pop("targets", TARGETS), {"value": 0.5}, []]]
    return sealed(deflated(packb(list((fields | changes).values()))), changes.pop("payload", b""))


def coded(codec: str, meta: dict[str, Any], *streams: bytes) -> bytes:
    """A file in which `codec` fills a tensor of 10 × 8 from `streams`."""
    others = [target for target in TARGETS if target != "12.weight"]
    part = [codec, ["12.weight"], meta, [["weights", len(stream)] for stream in streams]]
    header = [ARCHITECTURE, ARGUMENTS, {}, {}, [part, ["constant", others, {"value": 0.5}, []]]]
    return sealed(deflated(packb(header)), b"".join(streams))


def built(kind: str, *children: Any, **arguments: Any) -> dict[str, Any]:
    return {"kind": kind, "arguments": arguments, "children": list(children)}


def with_arguments(value: bytes) -> bytes:
    """A file whose architecture has the argument a = `value`, which is MessagePack or not."""
    return sealed(deflated(b"\x95" + packb(ARCHITECTURE) + b"\x81\xa1a" + value + b"\x80\x80\x90"))


def zeros(megabytes: int) -> bytes:
    """So many MiB of zeros, deflated: blocks that end in a full flush can be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(bytes(MiB)) + packer.flush(zlib.Z_FULL_FLUSH)) * megabytes + packer.flush()


def hostile() -> dict[str, bytes]:
    """Files by what is wrong with them."""
    identity, linear = packb(built("Identity")), built("Linear", in_features=1024, out_features=1024, bias=False)
    norm = {"kind": "BatchNorm2d", "arguments": {"num_features": 1}}
    nested = b"\x82\xa4kind\xaaSequential\xa8children\x91" * 1000 + identity
    deeper = {"2" + ".0" * i: built("Sequential", built("Identity")) for i in range(300)}
    step = struct.pack("<f", 0.5)
    per_tensor, surp = {"per_channel": [False]}, {"mu": 1.0, "alpha": 10.0, "decay": 0.9, "seed": 1, "steps": 2**60}
    names = [
        "os.system",
        "../x",
        "",
        ".",
        "surp.",
        "surp.nothing",
        "nobody.codec",
        "raw\0",
        "benchmarks.cli",
        "__init__",
    ]
    files = {
        "2^60 symbols": coded("uniform", per_tensor, join_blocks([varints([0, 2**60])]), step),
        "2^60 escapes": coded("uniform", per_tensor, join_blocks([varints([0, 1, 2**60, 9])]), step),
        "2^60 bytes in a block": coded("uniform", per_tensor, varints([2**60]), step),
        "indices below 2^60": coded("index", {"limit": 2**60, "packed": [True]}, b"\x01\x00"),
        "2^60 steps": coded("surp.sequential", surp, *[b""] * 6),
        "depth 10^9": described(architecture="cifar_resnet", arguments={"depth": 10**9}),
        "2^40 channels": described(edits={"0": built("Conv2d", in_channels=2**40, out_channels=2**40, kernel_size=1)}),
        "2^40 weights": described(edits={"12": built("Linear", in_features=2**20, out_features=2**20)}),
        "2^27 weights in a small file": described(edits={"12": built("Linear", in_features=2**13, out_features=2**14)}),
        "2^60 channels gathered": described(edits={"2": built("Gather", channels=2**60)}),
        "2^28 channels gathered": described(edits={"2": built("Gather", channels=2**28)}),
        "windows of 2^40": described(edits={"2": built("AvgPool2d", kernel_size=2**40, stride=1)}),
        "a padding of 2^40": described(edits={"0": built("Conv2d", **SMALL, padding=[2**40, 0])}),
        "a kernel of 2^20 sides": described(edits={"0": built("Conv2d", **SMALL | {"kernel_size": [1] * 2**18})}),
        "2^40 groups": described(edits={"0": built("Conv2d", **SMALL, groups=2**40)}),
        "2^40 values in pieces": described(edits={"0": built("JoinedConv2d", **JOINED | {"pieces": [2**20] * 4})}),
        "100,000 pieces": described(edits={"0": built("JoinedConv2d", **JOINED | {"pieces": [1] * 100_000})}),
        "a variance of NaN": described(edits={"1": built("BatchNorm2d", num_features=4, eps=float("nan"))}),
        "a list of lists": described(edits={"12": built("Linear", in_features=[[8] * 99] * 999, out_features=10)}),
        "modules in a layer": described(
            edits={"12": built("Linear", *[linear] * 1000, in_features=8, out_features=10)}, targets=TARGETS
        ),
        "a kind of 100,000 letters": described(edits={"2": built("Conv2d" * 16_667)}),
        "a device": described(edits={"12": built("Linear", in_features=8, out_features=10, device=0)}),
        "10,000 edits": described(
            edits={"2": built("Sequential", *[{"kind": "Identity"}] * 9999)} | {f"2.{i}": norm for i in range(9999)}
        ),
        "nested 1000 deep": sealed(deflated(b"\x95" + packb(ARCHITECTURE) + b"\x80\x81\xa12" + nested + b"\x80\x90")),
        "nested by edits": described(edits=deeper),
        "60,000 modules": described(
            edits={"2": built("Sequential", *[{"kind": "Identity"}] * 60_000)}, targets=TARGETS[1:]
        ),
        "a million maps": with_arguments(b"\xdd" + struct.pack(">I", 10**6) + b"\x81\xa4kind\xa8Identity" * 10**6),
        "ties of 1000 layers": described(
            edits={"2": built("Sequential", *[linear] * 1000)},
            tied={f"2.{i}.weight": "2.0.weight" for i in range(1, 1000)},
            targets=[*TARGETS, "2.0.weight"],
        ),
        "a million lists": with_arguments(b"\xdd" + struct.pack(">I", MiB - 99) + b"\x90" * (MiB - 99)),
        "16 million lists": with_arguments(b"\xdd" + struct.pack(">I", 2**24 - 99) + b"\x90" * (2**24 - 99)),
        "100,000 nested lists": with_arguments(b"\x91" * 100_000 + b"\x90"),
        "a key that is a map": with_arguments(b"\x81\x80\x01"),
        "no UTF-8": with_arguments(b"\xa2\xf3\x28"),
        "an impossible time": with_arguments(b"\xd7\xff" + b"\xff" * 8),
        "a gigabyte of zeros": sealed(zeros(1024)),
        "a stream of -1 bytes": described(parts=[["raw", TARGETS, {"dtype": "float32"}, [["weights", -1]]]]),
        "a stream of 2^63 bytes": described(parts=[["raw", TARGETS, {"dtype": "float32"}, [["weights", 2**63]]]]),
        "an unknown role": described(parts=[["raw", TARGETS, {"dtype": "float32"}, [["profit", 0]]]]),
        "a part without targets": described(parts=[["constant", TARGETS, {"value": 1}, []], ["constant", [], {}, []]]),
        "ties in a circle": described(tied={"4.weight": "8.weight", "8.weight": "4.weight"}),
        "a tie to itself": described(tied={"4.weight": "4.weight"}),
        "version 2": sealed(deflated(packb([ARCHITECTURE, ARGUMENTS, {}, {}, []])), version=2),
    }
    return files | {f"codec {name!r}": coded(name, {}, b"") for name in names}
