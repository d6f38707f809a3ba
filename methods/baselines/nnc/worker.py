"""The process that calls NNCodec. It runs in the environment of that library, so it imports only what is there.

    python worker.py

writes one message when the library is imported, then answers each request with one message. Each request is handled in a
fork of this process with limits of its own: the library may crash, loop for ever or ask for any amount of memory on bytes
that its encoder did not write.

A message is one line of JSON, followed by the bytes of its buffers. Its "sizes" are the lengths of these buffers; "error" is
the reason of a failure. The limits of a request are seconds of processor time, and bytes beyond those that are in use.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path

WALL = 20  # seconds of waiting for each second of processor time that a request may use


def send(stream, message, buffers=()):
    """Write one message; `buffers` are bytes."""
    stream.write(json.dumps({**message, "sizes": [len(b) for b in buffers]}).encode() + b"\n")
    for buffer in buffers:
        stream.write(buffer)
    stream.flush()


def receive(stream):
    """The next message and its buffers; (None, []) at the end of the stream, and for anything that is not a message."""
    try:
        message = json.loads(stream.readline())
        buffers = [stream.read(size) for size in message["sizes"]]
    except (ValueError, TypeError, KeyError):
        return None, []
    return (message, buffers) if list(map(len, buffers)) == message["sizes"] else (None, [])


def encode(request, buffers):
    """The bitstream of tensors, given as [name, dtype, shape] and their bytes, with NNCodec's `settings`."""
    import numpy as np
    import torch
    from nncodec import nn

    class Tensors(torch.nn.Module):
        """A network as far as NNCodec looks at it: a state_dict, and a parameter for its unused optimiser."""

        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def state_dict(self):
            found = {}
            for (name, dtype, shape), data in zip(request["tensors"], buffers, strict=True):
                found[name] = torch.from_numpy(np.frombuffer(bytearray(data), dtype).reshape(shape))
            return found

    with tempfile.TemporaryDirectory() as folder:
        return [bytes(nn.encode(Tensors(), {**request["settings"], "verbose": False, "results": folder}))]


def decode(request, buffers):
    """The fp32 values of a bitstream's tensors without `num_batches_tracked`; `values` are the expected numbers of values."""
    import numpy as np
    from nncodec import nn

    found = nn.decode(bytearray(buffers[0]), {"verbose": False})
    arrays = [np.asarray(a, np.float32) for name, a in found.items() if not name.endswith("num_batches_tracked")]
    if [array.size for array in arrays] != request["values"]:
        raise ValueError("it holds other tensors than the file's header names")
    return [array.tobytes() for array in arrays]


def limit(seconds, size):
    """Bound this process: processor time, waiting time, and bytes beyond its present address space."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    signal.alarm(WALL * seconds)
    used = Path("/proc/self/statm")
    if used.exists():
        size += int(used.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def answer(request, buffers, stream):
    """Handle one request and write the reply."""
    try:
        if request["limits"]:
            limit(*request["limits"])
        found = {"encode": encode, "decode": decode}[request["do"]](request, buffers)
    except BaseException as error:  # the library raises exceptions of any kind, including SystemExit
        send(stream, {"error": str(error) or type(error).__name__})
    else:
        send(stream, {}, found)


def forked(request, buffers):
    """The reply to a request, from a fork of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            with os.fdopen(writing, "wb") as stream:
                answer(request, buffers, stream)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        reply, found = receive(stream)
    _, status = os.waitpid(child, 0)
    return (reply, found) if reply is not None else ({"error": ending(status)}, [])


def ending(status):
    """Why a process ended without a reply."""
    if not os.WIFSIGNALED(status):
        return "the library ended its process"
    number = os.WTERMSIG(status)
    if number in (signal.SIGXCPU, signal.SIGALRM):
        return "it takes more time than its length allows"
    if number == signal.SIGKILL:
        return "its process was killed (out of memory?)"
    return f"the library crashed ({signal.Signals(number).name})"


def main():
    stream = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # the library prints
    os.dup2(nowhere, 2)
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    try:
        for module in ("benchmarks.data.vision", "nncodec.nn"):  # the first makes torchvision importable
            importlib.import_module(module)
        import torch

        torch.set_num_threads(1)  # a fork has only one thread
        send(stream, {"version": importlib.metadata.version("nncodec")})
    except BaseException:
        send(stream, {"error": traceback.format_exc().strip().splitlines()[-1]})
        return
    with contextlib.suppress(BrokenPipeError):
        while True:
            request, buffers = receive(sys.stdin.buffer)
            if request is None:
                return
            reply, found = forked(request, buffers)
            send(stream, {k: v for k, v in reply.items() if k != "sizes"}, found)


if __name__ == "__main__":
    main()
