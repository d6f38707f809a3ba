"""With this folder on PYTHONPATH, every process takes the machine for one without bf16 instructions.

`PYTHONPATH=$PWD/tests/without_bf16 nox -s tests` runs the tests as such a machine would: training is in fp32 there.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class _Without(Loader):
    """Loads `torch.cpu`, and replaces its answer."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        assert module._is_avx512_bf16_supported
        module._is_avx512_bf16_supported = lambda: False  # type: ignore[attr-defined]


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "torch.cpu":
            return None
        spec = PathFinder.find_spec(name, path, target)  # type: ignore[arg-type]
        if spec and spec.loader:
            spec.loader = _Without(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
