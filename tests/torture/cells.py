"""A small cell of the suite `digits`, run by the command line in a process group that can be killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
COMPARED = (".rbn", ".items")  # what has to be the same to the byte; records hold times


def start(results: Path, method: str, log: Path) -> subprocess.Popen[bytes]:
    """`ratebench run` for one method, with training; what it prints goes to the file `log`."""
    command = [sys.executable, "-m", "benchmarks.cli", "run", "digits", "--network", "digits_cnn", "--budget", "short"]
    with log.open("wb") as printed:
        return subprocess.Popen(
            [*command, "--method", method, "--results", str(results)],
            cwd=ROOT,
            stdout=printed,
            stderr=subprocess.STDOUT,
            process_group=0,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def finish(results: Path, method: str, log: Path, seconds: float = 3600) -> tuple[int, float]:
    """Run to the end; returns the exit status and the seconds that it took."""
    begin, process = time.monotonic(), start(results, method, log)
    return process.wait(seconds), time.monotonic() - begin


def kill(process: subprocess.Popen[bytes]) -> bool:
    """SIGKILL to the process and what it started in its group; False if it had ended before."""
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return not ended


def content(results: Path) -> dict[str, str]:
    """The files below a folder by name, with the hash of those that have to be the same."""
    found = {}
    for path in sorted(path for path in results.rglob("*") if path.is_file()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.suffix in COMPARED else ""
        found[str(path.relative_to(results))] = digest
    return found


def differences(undisturbed: dict[str, str], found: dict[str, str]) -> list[str]:
    """In words, what a folder has too much, too little or otherwise than that of the undisturbed run."""
    return [
        *(f"{name} is missing" for name in undisturbed if name not in found),
        *(f"{name} is left over" for name in found if name not in undisturbed),
        *(f"{name} differs" for name in undisturbed if name in found and found[name] != undisturbed[name]),
    ]
