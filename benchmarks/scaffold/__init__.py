"""`ratebench new-method`: a package with a working method, and tests that fail until they are filled in."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template

import methods
from benchmarks import storage
from benchmarks.errors import RateBenchError

_FILES = {
    "method.py.txt": "methods/{key}/__init__.py",
    "reported.toml.txt": "methods/{key}/reported.toml",
    "README.md.txt": "methods/{key}/README.md",
    "test.py.txt": "tests/test_{key}.py",
}


def new_method(key: str, root: Path | None = None) -> list[Path]:
    """Write the template package `key` below `root` (the current folder) and return its files.

    Raises RateBenchError if the key is not a lower-case Python name or is taken, or if `root` is not a checkout.
    """
    root = root or Path.cwd()
    if not re.fullmatch(r"[a-z][a-z0-9_]*", key) or keyword.iskeyword(key):
        msg = f"{key!r} can't be a method's key: use lower-case letters, digits and _, starting with a letter"
        raise RateBenchError(msg)
    if key in methods.names():
        msg = f"method {key!r} exists already: {methods.source(key)}"
        raise RateBenchError(msg)
    if not (root / "methods" / "interface.py").exists():
        msg = f"{root} is not a RateBench checkout: run in its root folder"
        raise RateBenchError(msg)
    written = []
    for template, target in _FILES.items():
        text = Template((Path(__file__).parent / template).read_text(encoding="utf-8")).substitute(key=key)
        path = root / target.format(key=key)
        storage.write(path, text.encode())
        written.append(path)
    return written
