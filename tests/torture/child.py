"""A decoder in a process of its own: `python child.py MODULE:FUNCTION BYTES`, whose memory may grow by BYTES.

It reads files from its input, each after its length in eight bytes, and answers with one line of JSON for each: the outcome,
by how many bytes memory rose at most, and the seconds of processor time.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import struct
import sys
import time
from pathlib import Path

from benchmarks.errors import BitstreamError, first_line


def status(key: str) -> int:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def main(decoder: str, growth: str) -> None:
    module, _, name = decoder.partition(":")
    decode = getattr(importlib.import_module(module), name)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    libc, files = ctypes.CDLL(None), sys.stdin.buffer
    limit = status("VmSize") + int(growth)
    while size := files.read(8):
        data = files.read(struct.unpack("<Q", size)[0])
        gc.collect()
        gc.freeze()  # the next collection looks at what this file leaves, not at the libraries
        libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", "utf-8")  # forgets the peak so far
        before, start = status("VmRSS"), time.process_time()
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            decode(data)
            outcome = "decoded"
        except BitstreamError as error:
            outcome = "memory" if "memory is insufficient" in str(error) else "refused"
        except Exception as error:
            outcome = f"escaped: {type(error).__name__}: {first_line(error)}"
        seconds = time.process_time() - start
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        found = {"outcome": outcome, "memory": max(0, status("VmHWM") - before), "seconds": round(seconds, 3)}
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
