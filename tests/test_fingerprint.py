"""Fingerprints follow what the code says that a result depends on, and only that."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import test_runner
from test_runner import Laboratory

import methods
from benchmarks import seeds
from benchmarks.fingerprint import ROOT, Code, here, json_hash, parsed, sources
from benchmarks.running.cell import SCORING, Cell
from benchmarks.tasks import digits
from methods.interface import Budget

laboratory = test_runner.laboratory
CODE = """
def total(rows, scale=2):
    found = 0
    for row in rows:
        found += scale * max(abs(row), 1)
        found %= 7
    return found
"""
PROJECT = {
    "benchmarks/__init__.py": "",
    "benchmarks/parts/__init__.py": "from benchmarks.parts.one import first, shared\nfrom benchmarks.parts.two import second\n",
    "benchmarks/parts/one.py": "LIMIT = 1\ndef first(): return LIMIT\ndef shared(): return 3\n",
    "benchmarks/parts/two.py": "from benchmarks.parts.three import third\ndef second(): return third() + 1\n",
    "benchmarks/parts/three.py": "def third(): return 3\n",
    "benchmarks/free.py": "__fingerprint__ = False  # words alone\nfrom benchmarks.parts import second\nWORDS = 'a'\n",
    "methods/__init__.py": "",
    "methods/used.py": "from benchmarks.parts import first\nfrom benchmarks.free import WORDS\nX = first()\n",
}


def content(code: str) -> str:
    return parsed.__wrapped__(code).content  # past the cache, which other tests have filled


@pytest.mark.parametrize(
    "code",
    [
        "# a comment\n" + CODE,
        '"""What it is."""\n' + CODE,
        CODE.replace("found = 0", '"""Add up, ü."""\n    found = 0  # none yet'),
        CODE.replace("scale * max(abs(row), 1)", "(\n            scale\n            * max(abs(row), 1,)\n        )"),
        CODE.replace("    ", "  ").replace("\n", "\n\n"),
        CODE.replace("rows, scale=2", "rows,\n    scale=2,\n"),
        "from __future__ import annotations\n" + CODE,
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import b\n    LIMIT = 3\n" + CODE,
        "import benchmarks.storage\nfrom benchmarks.errors import MethodError\n" + CODE,
        CODE.replace("found = 0", "from methods.interface import Task\n    found = 0"),
        "from methods.interface import Card\nCARD = Card('x', budgets=('short',))\n" + CODE,
        "CARD: object = None\n" + CODE + "__all__ = ['total']\n",
    ],
    ids=[
        "comment",
        "module docstring",
        "function docstring",
        "brackets",
        "white space",
        "wrapped",
        "future",
        "for type checkers",
        "imports of the project",
        "import in a function",
        "card",
        "names that are handed on",
    ],
)
def test_what_does_not_run_does_not_count(code: str) -> None:
    assert ast.parse(code) and content(code) == content(CODE)


@pytest.mark.parametrize(
    "code",
    [
        CODE.replace("scale=2", "scale=3"),
        CODE.replace("scale=2", "scale=2.0"),
        CODE.replace("%", "//"),
        CODE.replace("abs(row), 1", "abs(row, 1)"),
        CODE.replace("        found %= 7", "    found %= 7"),
        CODE.replace("    return found", "        return found"),
        CODE.replace("rows, scale", "rows, *, scale"),
        CODE.replace("return found", "return None"),
        CODE.replace("return found", "return"),
        CODE.replace("def total", "async def total"),
        CODE + "total([])\n",
        CODE + "CARDS = 1\n",
        "CARD = LIMIT = 3\n" + CODE,
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    LIMIT = 3\n" + CODE,
        "if True:\n    CARD = 1\n" + CODE,
    ],
)
def test_what_runs_counts(code: str) -> None:
    assert ast.parse(code) and content(code) != content(CODE)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("from math import floor\n", "from math import floor, ceil\n", False),
        ("from math import floor as f\n", "from math import ceil as f\n", False),
        ("from numpy import add\n", "from torch import add\n", False),
        ("import numpy as n\n", "import torch as n\n", False),
        ("import math\nimport json\n", "import json, math\n", True),
        ("from math import floor, ceil\n", "from math import ceil\nfrom math import (floor,)\n", True),
        ("from collections.abc import Mapping\n", "from typing import Mapping\n", True),
        ("from benchmarks.a import f\n", "from benchmarks.b import f\n", True),  # what that is counts by itself
        ("from benchmarks import a\n", "from benchmarks.folder import a\n", True),
        ("from benchmarks.a import f\n", "from benchmarks.a import g as f\n", False),
        ("from benchmarks.a import f, g\n", "from benchmarks.a import f as g, g as f\n", False),
        ("from benchmarks.a import f\n", "from benchmarks.a import f as f\n", True),
    ],
)
def test_an_import_counts_by_what_its_names_stand_for(one: str, other: str, same: bool) -> None:
    assert (content(one + CODE) == content(other + CODE)) is same


def test_a_file_that_says_nothing_has_no_content() -> None:
    for code in ("", '"""What it is."""\n', "from benchmarks.parts import first\nimport math\n__all__ = ['first']\n"):
        assert content(code) == ""
    exempt = parsed("__fingerprint__ = False\n" + CODE)
    assert exempt.content == "" and exempt.exempt and not parsed(CODE).exempt


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., frozenset[str]]:
    """What `methods/used.py` depends on in a small project: the names of the files, by their contents."""

    def contents(changes: dict[str, str] | None = None) -> frozenset[str]:
        for name, text in (PROJECT | (changes or {})).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        code = Code(tmp_path)
        return code.contents(code.sources("methods.used"))

    return contents


def test_a_package_that_hands_names_on_makes_a_file_depend_on_where_they_are_made(
    project: Callable[..., frozenset[str]], tmp_path: Path
) -> None:
    before = project()
    code = Code(tmp_path)
    assert {file.name for file in code.sources("methods.used")} == {"used.py", "one.py"}
    assert {file.name for file in code.sources("methods.used", "benchmarks.parts.two")} >= {"two.py", "three.py"}
    assert project({"benchmarks/parts/two.py": "def second(): return 9\n"}) == before
    assert project({"benchmarks/free.py": "__fingerprint__ = False\nWORDS = 'b'\n"}) == before
    assert project({"benchmarks/parts/one.py": PROJECT["benchmarks/parts/one.py"].replace("= 1", "= 2")}) != before
    handed = "from benchmarks.parts.two import second as first\n"
    assert project({"benchmarks/parts/__init__.py": handed}) != before  # another function under the same name


def test_neither_the_folder_of_a_file_nor_its_name_counts(
    project: Callable[..., frozenset[str]], tmp_path: Path
) -> None:
    before = project()
    moved = PROJECT["methods/used.py"].replace("benchmarks.parts import", "benchmarks.deep.other import")
    assert project({"methods/used.py": moved}) != before  # it is not there
    (tmp_path / "benchmarks" / "deep").mkdir()
    (tmp_path / "benchmarks/parts/one.py").rename(tmp_path / "benchmarks/deep/other.py")
    code = Code(tmp_path)
    assert code.contents(code.sources("methods.used")) == before


def test_files_may_import_each_other_in_a_circle(project: Callable[..., frozenset[str]], tmp_path: Path) -> None:
    project({"benchmarks/parts/one.py": "from methods.used import X\ndef first(): return 1\n"})
    code = Code(tmp_path)
    assert len(code.sources("methods.used")) == len(code.sources("benchmarks.parts.one")) == 2


def test_a_package_may_ask_itself_for_a_name(project: Callable[..., frozenset[str]], tmp_path: Path) -> None:
    """In a circle of packages that hand a name on, or that of a file which is gone, none of them makes it."""
    project({"benchmarks/parts/__init__.py": "from benchmarks.parts import first\nX = first\n"})
    assert {file.name for file in Code(tmp_path).sources("methods.used")} == {"used.py", "__init__.py"}


def test_sources_are_closed_under_imports() -> None:
    found = sources("methods.baselines.uniform")
    names = {file.relative_to(ROOT).as_posix() for file in found}
    assert {"methods/baselines/uniform.py", "benchmarks/training/batchnorm.py"} <= names
    assert {"benchmarks/bitstream/codecs/uniform.py", "benchmarks/bitstream/entropy.py"} <= names
    assert all(sources(file) <= found for file in found)
    assert "benchmarks/bitstream/codecs/sparse.py" not in names  # a codec that this method does not write
    assert not [name for name in names if name.startswith(("benchmarks/running", "benchmarks/report"))]
    assert not names & {
        "benchmarks/cli/cells.py",
        "benchmarks/storage.py",
        "methods/interface.py",
        "methods/__init__.py",
    }


def test_every_method_depends_on_nothing_of_other_methods(laboratory: Laboratory) -> None:
    packages = {key: methods.source(key) for key in methods.names()}
    for key, package in packages.items():
        others = {place for other, place in packages.items() if other != key}
        assert not [file for file in sources(package) if file in others or others & set(file.parents)], key


@pytest.mark.parametrize("key", methods.names())
def test_a_name_from_the_project_means_one_thing_in_the_code_of_a_method(key: str) -> None:
    """Where a name comes from does not count: with two of the same name, one could be taken for the other unnoticed."""
    code = here()
    files = code.sources(methods.source(key), *SCORING)
    origins: dict[str, set[Path]] = {}
    for file in files:
        for module, name, _ in code.source(file).imports:
            origin = code._origin(module, name)
            if name is not None and origin in files:
                origins.setdefault(name, set()).add(origin)
    assert {name: found for name, found in origins.items() if len(found) > 1} == {}


def test_no_file_of_the_project_uses_relative_imports() -> None:
    """`sources` follows absolute imports; a method's own folder is taken whole, so it alone could do without."""
    for file in [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "methods").rglob("*.py")]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level], file


def test_each_ingredient_changes_the_fingerprint(laboratory: Laboratory) -> None:
    laboratory.configure({}, {"points": 2})
    cell, other = laboratory.cells()
    before = cell.ingredients()

    def changed(cell: Cell) -> set[str]:
        return {name for name, value in cell.ingredients().items() if value != before[name]}

    assert len(before) == 5 and all(name.startswith("the ") for name in before)
    assert changed(cell) == set() and cell.fingerprint() == json_hash(before)[:16]
    assert changed(other) == {"the configuration"} and other.id != cell.id
    assert changed(replace(cell, seed=1)) == {"the seed"}
    assert changed(replace(cell, budget=Budget("short", 2.5))) == {"the budget"}
    assert changed(replace(cell, network="digits_resnet")) == {"the code"}
    assert changed(replace(cell, task="cifar10", network="resnet20")) == {
        "the code",
        "the data or the reference",
    }
    assert changed(replace(cell, budget=replace(cell.budget, epochs=2.5))) == {"the budget"}  # of the same name
    assert changed(replace(cell, budget=replace(cell.budget, epochs=None))) == {"the budget"}
    for entry in ("data", "reference"):
        other_hash = digits.provenance("digits_cnn") | {entry: "sha256:0"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(digits, "provenance", lambda network, found=other_hash: found)
            assert changed(cell) == {"the data or the reference"}
            assert cell.fingerprint() != json_hash(before)[:16]
    package = laboratory.folder / "packages" / "tiny.py"
    package.write_text(package.read_text().replace("index / 64", "index / 32"))
    laboratory.forget()
    assert changed(cell) == {"the code"}


COUNTED = (
    *("benchmarks/tasks/digits.py", "benchmarks/tasks/kinds/classification.py", "benchmarks/tasks/kinds/metrics.py"),
    *("benchmarks/networks/digits_cnn.py", "benchmarks/training/loop.py", "benchmarks/training/augmentation.py"),
    *("benchmarks/evaluation/worker.py", "benchmarks/evaluation/scoring.py", "benchmarks/evaluation/shards.py"),
    *("benchmarks/evaluation/measure.py", "benchmarks/evaluation/metrics.py", "benchmarks/evaluation/inference.py"),
    *("benchmarks/bitstream/container.py", "benchmarks/bitstream/blueprint.py", "benchmarks/bitstream/codecs/raw.py"),
    *("benchmarks/training/modes.py", "benchmarks/training/recipe.py", "benchmarks/seeds.py"),
)


@pytest.mark.parametrize("name", COUNTED)
def test_a_change_of_each_file_that_makes_a_number_changes_the_fingerprint(laboratory: Laboratory, name: str) -> None:
    """Those that are found by name, too: the task, what its kind shares, and the network."""
    cell, code = laboratory.cells()[0], here()
    before = cell.ingredients()
    file = ROOT / name
    laboratory.patch.setitem(code._sources, file, replace(code.source(file), content="another content"))
    after = cell.ingredients()
    assert {ingredient for ingredient in before if before[ingredient] != after[ingredient]} == {"the code"}
    assert cell.fingerprint() == json_hash(after)[:16] != json_hash(before)[:16]


def test_plain_data_hashes_alike_in_any_order() -> None:
    assert json_hash({"a": 1, "b": [1, 2]}) == json_hash({"b": [1, 2], "a": 1})
    assert json_hash({"a": 1}) != json_hash({"a": 1.0}) != json_hash({"a": "1"})
    assert json_hash([1, 2]) != json_hash([2, 1])


def test_seeds_are_a_tree_and_the_same_everywhere() -> None:
    assert seeds.derive(0, "fit", "stage", 3) == seeds.derive("0", "fit", "stage", "3")
    assert len({seeds.derive(s, n, e) for s in range(3) for n in ("a", "b") for e in range(5)}) == 30
    assert seeds.derive("reference") == 1852103475600818664  # for ever: another value would change every seeded result
    draws = [seeds.generator(0, "fit").initial_seed() for _ in range(2)]
    assert draws[0] == draws[1] and 0 <= draws[0] < 2**63


def test_architectures_that_code_names() -> None:
    """As arguments or by the names of constants, but no other strings."""
    text = """
        from benchmarks import networks
        NAME, OTHER = "pair", "other"
        FIRST = "first"
        SECOND: str = "second"
        def compress(task, config, run):
            networks.build(FIRST, {})
            build("third", {"fourth": "fifth"})
            describe("sixth", architecture="seventh")
            return Compressed(SECOND, {}, ("eighth",), task.architecture)
    """
    assert parsed.__wrapped__(textwrap.dedent(text)).architectures == {"first", "second", "third", "seventh"}


@dataclass(frozen=True)
class Old:
    points: int = 2
    gone: str = "never used"

    operating_points = None


@dataclass(frozen=True)
class New:
    points: int = 2
    extra: tuple[float, ...] = ()

    operating_points = None


def test_a_configuration_is_what_differs_from_the_defaults(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records made before there was a field stay those of its default; so do those of a field that is gone since."""
    cell = laboratory.cells()[0]
    method = methods.get(cell.method)

    def named(kind: type, config: dict[str, Any]) -> tuple[str, str, str]:
        monkeypatch.setattr(method, "Config", kind)
        found = replace(cell, config=config)
        return found.id, found.config_hash, found.ingredients()["the configuration"]

    default = named(Old, {"points": 2, "gone": "never used"})
    assert named(New, {"points": 2, "extra": []}) == named(New, {"points": 2}) == default
    changed = named(Old, {"points": 5, "gone": "never used"})
    assert named(New, {"points": 5, "extra": []}) == changed != default
    set_since = named(New, {"points": 5, "extra": [1.0]})
    assert all(len(set(names)) == 3 for names in zip(default, changed, set_since, strict=True))
    assert named(New, {"points": 2, "gone": "used"}) != default  # an old record of a setting that nobody knows
