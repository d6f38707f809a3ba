"""Cells on several machines: a Ray cluster whose nodes share a results folder and a cache folder (one file system).

Ray does not retry cells: a cell that is lost with its node is run again by the next `ratebench run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import RateBenchError
from benchmarks.running.cell import Cell


def completed(
    cells: Sequence[Cell], results: Path, address: str, work: Callable[..., Any], fresh: bool
) -> Iterator[tuple[Cell, Any]]:
    """Run `work(cell, results, threads, fresh)` for each cell on the cluster at `address`; yields each as it ends.

    `address` is an address for `ray.init`: "auto", "local" or "host:port". A node runs one cell per GPU, or one at a time on
    all of its cores. Raises RateBenchError if Ray is not installed, can't be reached, or loses a cell.
    """
    try:
        import ray
    except ImportError as error:
        msg = "Ray is not installed: pip install 'ratebench[cluster]' on every node"
        raise RateBenchError(msg) from error
    try:
        ray.init(address=address, log_to_driver=False)
        node = ray.nodes()[0]["Resources"]
        gpus = min(1, int(node.get("GPU", 0)))
        threads = max(1, int(node["CPU"]) // max(1, int(node.get("GPU", 0))))
        remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(work)
        pending = {remote.remote(cell, results.resolve(), threads, fresh): cell for cell in cells}
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            yield pending.pop(done), ray.get(done)
    except (ConnectionError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[-1]
        msg = f"the Ray cluster at {address!r} failed ({reason}): finished records are kept; run again"
        raise RateBenchError(msg) from error
    finally:
        ray.shutdown()
