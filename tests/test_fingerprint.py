"""Fingerprints follow the code that a result depends on, and only that."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import test_runner
from test_runner import Laboratory

import methods
from benchmarks import fingerprint, seeds
from benchmarks.fingerprint import ROOT, code_hash, json_hash, sources
from methods.interface import ADDED

laboratory = test_runner.laboratory
CODE = """
def total(rows, scale=2):
    found = 0
    for row in rows:
        found += scale * max(abs(row), 1)
        found %= 7
    return found
"""


@pytest.fixture
def hashed(tmp_path: Path) -> Callable[[str], str]:
    def of(code: str) -> str:
        (tmp_path / "module.py").write_text(code, encoding="utf-8")
        fingerprint._file_hash.cache_clear()
        return code_hash([tmp_path / "module.py"])

    return of


@pytest.mark.parametrize(
    "code",
    [
        "# a comment\n" + CODE,
        '"""What it is."""\n' + CODE,
        CODE.replace("found = 0", '"""Add up, ü."""\n    found = 0  # none yet'),
        CODE.replace("scale * max(abs(row), 1)", "(\n            scale\n            * max(abs(row), 1,)\n        )"),
        CODE.replace("    ", "  ").replace("\n", "\n\n"),
        CODE.replace("rows, scale=2", "rows,\n    scale=2,\n"),
    ],
    ids=["comment", "module docstring", "function docstring", "brackets", "white space", "wrapped"],
)
def test_what_does_not_run_does_not_count(hashed: Callable[[str], str], code: str) -> None:
    assert ast.parse(code) and hashed(code) == hashed(CODE)


def test_a_version_that_gives_the_same_results_may_be_declared_and_a_later_one_is_not(
    hashed: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faster = CODE.replace("found = 0", "found = 0 if rows else 0")
    then, now = hashed(CODE), hashed(faster)
    hashes = []
    for code in (CODE, faster):
        (tmp_path / "module.py").write_text(code, encoding="utf-8")
        hashes.append(fingerprint._syntax_hash(tmp_path / "module.py"))
    table = f'[[same]]\nfile = "module.py"\nnow = "{hashes[1]}"\nthen = "{hashes[0]}"\nwhy = "a shortcut"\n'
    (tmp_path / "equivalents.toml").write_text(table, encoding="utf-8")
    monkeypatch.setattr(fingerprint, "EQUIVALENTS", tmp_path / "equivalents.toml")
    fingerprint._equivalents.cache_clear()
    try:
        assert then != now and hashed(faster) == then
        assert hashed(faster.replace("else 0", "else 1")) not in (then, now)
    finally:
        fingerprint._equivalents.cache_clear()


def test_every_declared_equivalence_says_why_and_belongs_to_a_file_at_hand() -> None:
    if fingerprint.EQUIVALENTS.exists():
        for row in tomllib.loads(fingerprint.EQUIVALENTS.read_text(encoding="utf-8"))["same"]:
            assert row["now"] == fingerprint._syntax_hash(ROOT / row["file"]), (
                f"{row['file']} has changed: remove its row"
            )
            assert row["then"] != row["now"] and len(row["why"]) > 20 and len(row["checked"]) > 20


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
        CODE.replace("def total", "async def total"),
        CODE + "total([])\n",
    ],
)
def test_what_runs_counts(hashed: Callable[[str], str], code: str) -> None:
    assert ast.parse(code) and hashed(code) != hashed(CODE)


def test_the_name_of_a_file_counts_but_not_where_the_checkout_is(tmp_path: Path) -> None:
    hashes = set()
    for place in ("a/one.py", "b/one.py", "a/two.py"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(CODE)
        hashes.add(code_hash([tmp_path / place]))
    assert len(hashes) == 2


def test_sources_are_closed_under_imports() -> None:
    found = sources("methods/baselines/uniform.py")
    names = {file.relative_to(ROOT).as_posix() for file in found}
    assert {"methods/baselines/uniform.py", "benchmarks/training/loop.py", "benchmarks/evaluation/accuracy.py"} <= names
    assert {"benchmarks/bitstream/codecs/uniform.py", "benchmarks/bitstream/entropy.py"} <= names
    assert all(sources(file) <= found for file in found)
    assert "benchmarks/bitstream/codecs/sparse.py" not in names  # a codec that this method does not write
    assert not names & {
        "benchmarks/running/execution.py",
        "benchmarks/running/schedule.py",
        "benchmarks/cli.py",
        "benchmarks/report/page.py",
        "benchmarks/storage.py",
    }


def test_every_method_depends_on_the_decoder_and_on_nothing_of_other_methods(laboratory: Laboratory) -> None:
    packages = {key: methods.source(key) for key in methods.names()}
    for key, package in packages.items():
        others = {place for other, place in packages.items() if other != key}
        assert not [file for file in sources(package) if file in others or others & set(file.parents)], key


def test_no_file_of_the_project_uses_relative_imports() -> None:
    """`sources` follows absolute imports; a method's own folder is taken whole, so it alone could do without."""
    for file in [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "methods").rglob("*.py")]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level], file


def test_a_codec_that_a_method_does_not_import_does_not_touch_its_results(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = laboratory.cells()[0]
    real, before = fingerprint._file_hash, cell.fingerprint()

    def with_change(name: str) -> str:
        changed = ROOT / name
        assert changed.is_file()
        monkeypatch.setattr(fingerprint, "_file_hash", lambda path: "new" if path == changed else real(path))
        return cell.fingerprint()

    for name in (
        "bitstream/codecs/sparse",
        "tasks/cifar10",
        "networks/cifar_resnet",
        "runner",
        "execution",
        "record",
        "cli",
        "fetching",
    ):
        assert with_change(f"benchmarks/{name}.py") == before, name
    for name in (
        "bitstream/codecs/raw",
        "bitstream/container",
        "scorer",
        "tasks/digits",
        "networks/digits_cnn",
        "measure",
    ):
        assert with_change(f"benchmarks/{name}.py") != before, name
    assert with_change("benchmarks/training/loop.py") != before  # the tiny method trains


def test_each_ingredient_changes_the_fingerprint(laboratory: Laboratory) -> None:
    laboratory.configure({}, {"points": 2})
    first, second = laboratory.cells()
    assert first.fingerprint() != second.fingerprint() and first.id != second.id
    names = set(first.ingredients())
    assert len(names) == 6 and all(name.startswith("the ") for name in names)
    assert {name for name in names if first.ingredients()[name] != second.ingredients()[name]} == {"the configuration"}


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


def test_a_field_that_was_added_later_counts_once_it_is_set(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records made before there was such a field stay those of its default."""

    @dataclass(frozen=True)
    class Old:
        points: int = 2

    @dataclass(frozen=True)
    class New(Old):
        extra: tuple[float, ...] = field(default=(), metadata=ADDED)

    cell = laboratory.cells()[0]
    method = methods.get(cell.method)

    def named(kind: type, config: dict[str, Any]) -> tuple[str, str]:
        monkeypatch.setattr(method, "Config", kind)
        found = replace(cell, config=config)
        return found.id, found.ingredients()["the configuration"]

    before = named(Old, {"points": 2})
    assert named(New, {"points": 2, "extra": []}) == before
    assert named(New, {"points": 2, "extra": [1.0]}) != before
