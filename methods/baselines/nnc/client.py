"""Calls NNCodec in a process of its own: the library pins an old numpy, and crashes or hangs on damaged bitstreams."""

from __future__ import annotations

import atexit
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import MethodError
from methods.baselines.nnc import worker

__fingerprint__ = False  # moves bytes to and from the worker

VERSION = "2.1.3"  # bitstreams and results of other versions may differ
SETTING = "RATEBENCH_NNCODEC"
OWN = Path(sys.prefix, "nncodec")  # the environment that noxfile.py makes, and the reason if it could not
LEFT_OUT = OWN.with_name("nncodec-left-out.txt")


class NNCodecError(Exception):
    """The library refused a request, or did not survive it; the message completes "NNCodec can't decode …: "."""


def python() -> str:
    """The Python that has NNCodec: named by RATEBENCH_NNCODEC, of the suite's environment for it, or this one.

    Raises MethodError if there is none.
    """
    if named := os.environ.get(SETTING):
        return named
    if (own := OWN / "bin" / "python").exists():
        return str(own)
    if importlib.util.find_spec("nncodec") is not None:
        return sys.executable
    if LEFT_OUT.is_file():
        raise MethodError(LEFT_OUT.read_text(encoding="utf-8").strip())
    msg = f"nncodec is not installed: pip install 'ratebench[nnc]', or set {SETTING} to a Python that has it"
    raise MethodError(msg)


class Library:
    """The worker process, started on first use."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the worker unless it runs; raises MethodError with the reason if it can't import the library."""
        if self._process is not None and self._process.poll() is None:
            return
        if not hasattr(os, "fork"):
            raise MethodError("NNCodec runs in a limited fork of a process, which this operating system does not have")
        command = [python(), str(Path(worker.__file__).resolve())]
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH")}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # as many threads as a fork has
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                process_group=0,  # the suite handles ctrl-C: this process ends with its pipe
            )
        except OSError as error:
            msg = (
                f"can't start {command[0]}: {error.strerror}; {SETTING} has to be the path of a Python that has nncodec"
            )
            raise MethodError(msg) from error
        assert self._process.stdout is not None
        began, _ = worker.receive(self._process.stdout)
        problem = "it ended while it started" if began is None else began.get("error")
        if problem is None and began is not None and began["version"] != VERSION:
            problem = f"it has version {began['version']}"
        if problem is not None:
            self.end()
            msg = f"nncodec {VERSION} can't be used with {command[0]}: {problem}"
            raise MethodError(msg)

    def end(self) -> None:
        """End the worker, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def ask(self, request: Mapping[str, Any], buffers: Sequence[bytes]) -> list[bytes]:
        """The buffers of the reply; raises NNCodecError if the library fails, MethodError if it can't be started."""
        self.start()
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        try:
            worker.send(self._process.stdin, request, buffers)
            reply, found = worker.receive(self._process.stdout)
        except BrokenPipeError:
            reply, found = None, []
        except BaseException:  # interrupted: what is left in the pipe would be taken for the next reply
            self.end()
            raise
        if reply is None:
            self.end()
            raise NNCodecError("its process ended unexpectedly")
        if "error" in reply:
            raise NNCodecError(reply["error"])
        return found


LIBRARY = Library()
atexit.register(LIBRARY.end)
