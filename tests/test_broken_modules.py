"""A module that fails on import stops what needs it, with one sentence; the other commands and methods go on."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import test_runner
from test_runner import Laboratory

import benchmarks.bitstream.codecs
import benchmarks.bitstream.modules
import benchmarks.networks
import benchmarks.tasks
import methods
from benchmarks import networks, registry
from benchmarks.errors import BrokenModule
from benchmarks.fingerprint import ROOT
from benchmarks.running import stages
from methods.baselines import reference

laboratory = test_runner.laboratory
SUITE = {"task": "digits", "networks": ["digits_cnn"], "methods": ["tiny", "reference"], "seeds": [0]}
BROKEN = [
    ("def broken(:\n", "SyntaxError: invalid syntax"),
    ("import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'"),
    ("raise RuntimeError('the driver is too old\\nsee there')\n", "RuntimeError: the driver is too old "),
    ("raise OSError('libx.so.1: cannot open shared object file')\n", "OSError: libx.so.1: cannot open shared"),
    ("import sys; sys.exit(3)\n", "SystemExit: 3"),
    ("raise KeyError\n", "KeyError "),
    ("a = '\xe4'\n", "SyntaxError: "),
    ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E\n", "E "),
    ("class E(BaseException): pass\nraise E('lost')\n", "E: lost"),
    ("def __getattr__(name): raise RuntimeError('no driver')\n", "RuntimeError: no driver"),
]


def broken(laboratory: Laboratory, code: str) -> None:
    """A checkout in which the module of the tiny method is this code, in Latin-1."""
    (laboratory.folder / "packages" / "tiny.py").write_text(code, encoding="latin-1")
    laboratory.forget()
    laboratory.configure({"points": 1}, digits=SUITE)


@pytest.mark.parametrize(("code", "sentence"), BROKEN)
def test_a_broken_method_is_one_sentence_and_the_others_are_planned(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], code: str, sentence: str
) -> None:
    """Wrong code that this finds: `except ImportError`, and `except Exception`, which SystemExit passes."""
    broken(laboratory, code)
    reason = f"method 'tiny' can't be imported: {sentence}"
    assert laboratory.ratebench("plan", "digits") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("digits/*/tiny") and f"not run: {reason}" in line for line in lines)
    assert any(line.startswith("digits/digits_cnn/reference/") and "to run" in line for line in lines)
    assert laboratory.ratebench("methods") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("tiny") and reason in line for line in lines)
    assert any(line.startswith("magnitude") and "baseline" in line for line in lines)
    assert laboratory.ratebench("run", "digits", "-m", "tiny") == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"error: {reason}") and complaint.count("\n") == 1
    assert "`python -c 'import tiny'` shows where" in complaint


def test_a_card_of_another_kind_is_one_sentence(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    code = (laboratory.folder / "packages" / "tiny.py").read_text(encoding="utf-8")
    broken(laboratory, f"{code}\nCARD = None\n")
    assert laboratory.ratebench("methods") == 0
    assert "method 'tiny' (tiny) lacks a Card as CARD: see methods/interface.py" in capsys.readouterr().out


def test_what_does_not_need_a_broken_method_goes_on(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    broken(laboratory, "raise RuntimeError('no driver')\n")
    assert laboratory.ratebench("run", "digits") == 1
    said = capsys.readouterr().err
    assert "left out: method 'tiny' can't be imported: RuntimeError: no driver" in said
    assert "error: 'tiny' could not be loaded and did not run" in said
    assert laboratory.ratebench("run", "digits", "-m", "reference") == 0
    assert "0 to run, 1 already recorded" in capsys.readouterr().out
    artefact = next(laboratory.results.rglob("*.rbn"))
    for command in (["show", "digits"], ["verify", "digits"], ["decode", str(artefact)], ["fingerprints", "digits"]):
        assert laboratory.ratebench(*command) == 0, command
    assert set(stages.fingerprints("digits")["digits_cnn"]) == {"reference"}


def test_a_report_names_what_a_broken_method_lacks(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    broken(laboratory, "import sys; sys.exit()\n")
    assert laboratory.ratebench("run", "digits", "-m", "reference") == 0
    assert laboratory.ratebench("report", "digits") == 0
    assert "code can" in (laboratory.folder / "reports/digits/index.html").read_text(encoding="utf-8")


def test_an_interruption_during_an_import_stops_the_command(laboratory: Laboratory) -> None:
    broken(laboratory, "raise KeyboardInterrupt\n")
    assert laboratory.ratebench("methods") == 130


@pytest.mark.parametrize("error", [OSError("libx.so: no such file"), SystemExit(1), ImportError("x")])
def test_a_method_that_cannot_say_whether_it_works_is_not_run(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(task: object, config: object) -> str | None:
        raise error

    monkeypatch.setattr(reference, "unsupported", fail)
    laboratory.configure(digits={**SUITE, "methods": ["reference"]})
    (cell,) = laboratory.cells()
    assert cell.unsupported() == f"could not say whether it works here: {type(error).__name__}: {error}"


PACKAGES = [benchmarks.tasks, benchmarks.networks, benchmarks.bitstream.codecs, benchmarks.bitstream.modules]


@pytest.fixture(params=PACKAGES, ids=lambda package: package.__name__)
def package(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package with one more module, `worn_out`, that ends the process on import."""
    (tmp_path / "worn_out.py").write_text("import sys\nsys.exit('worn out')\n")
    monkeypatch.setattr(request.param, "__path__", [*request.param.__path__, str(tmp_path)])
    registry.names.cache_clear()
    importlib.invalidate_caches()
    yield request.param
    registry.names.cache_clear()


def test_a_broken_task_network_codec_or_module_is_one_sentence(package: ModuleType) -> None:
    name = package.__name__
    with pytest.raises(BrokenModule, match=r"^a kind 'worn_out' can't be imported: SystemExit: worn out \(`python -c "):
        registry.find(name, "a kind", "worn_out")
    others = [module for module in registry.names(name) if module != "worn_out"]
    assert all(registry.find(name, "a kind", module) for module in others)


def test_a_broken_kind_of_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what a file needs: a module of the decoder, not one of torch."""

    def broken(module: str, what: str) -> ModuleType:
        raise BrokenModule(what, module, RuntimeError("no driver"))

    monkeypatch.setattr(registry.importing, "load", broken)
    with pytest.raises(BrokenModule, match=r"^kind of module 'linear' can't be imported: RuntimeError: no driver"):
        benchmarks.bitstream.modules.get("Linear")


def test_a_library_that_an_architecture_lacks_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong code that this finds: `except (TypeError, ValueError)` alone, with which decoding such a file is a traceback."""
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(
        networks.NetworkError, match=r"^architecture 'resnet' can't be built here: ModuleNotFoundError: "
    ):
        networks.build("resnet", {"depth": 18})


CACHED = """
import sys
from pathlib import Path
import methods
method = methods.get("aq")
folder = Path(sys.modules["methods.aq.search"].local_search.stats.cache_path)
assert folder.is_dir()
print(folder)
"""


def test_numba_caches_where_neither_home_nor_checkout_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_python: Callable[..., str]
) -> None:
    """Files stand where folders would be made: that also stops a process that may write everywhere."""
    for name in ("benchmarks", "methods"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "methods" / "aq" / "__pycache__").write_text("")
    for name in ("HOME", "XDG_CACHE_HOME", "IPYTHONDIR"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    folder = Path(fresh_python(CACHED, root=tmp_path).strip())
    assert "ratebench-numba-" in str(folder) and not folder.exists()


def test_a_method_is_imported_again_once_it_is_mended(laboratory: Laboratory) -> None:
    file = laboratory.folder / "packages" / "tiny.py"
    whole = file.read_text()
    broken(laboratory, "raise OSError\n")
    with pytest.raises(BrokenModule, match="OSError"):
        methods.get("tiny")
    file.write_text(whole)
    laboratory.forget()
    assert methods.get("tiny").CARD.key == "tiny"
