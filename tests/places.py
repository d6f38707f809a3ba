"""Where other processes of the tests find modules."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parent


def python_path(*folders: Path) -> str:
    """A PYTHONPATH of these folders, followed by what it has now."""
    return os.pathsep.join(filter(None, (*map(str, folders), os.environ.get("PYTHONPATH", ""))))
