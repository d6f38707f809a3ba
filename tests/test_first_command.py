"""`python3 noxfile.py`: which Python it takes, unfit installation, failures of pip, NNCodec left out."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, for a checkout in an empty folder."""
    spec = importlib.util.spec_from_file_location("installation", ROOT / "benchmarks" / "installation.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    (tmp_path / module.NNCODEC).mkdir(parents=True)
    (tmp_path / module.NNCODEC / "constraints.txt").write_text("nncodec==2.1.3\n", encoding="utf-8")
    return module


def program(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def environment(folder: Path, python: str = f"echo {OWN}", made_in: Path | None = None) -> Path:
    """A folder that looks like a virtual environment, whose Python is a shell script."""
    program(folder / "bin" / "python", python)
    (folder / "pyvenv.cfg").touch()
    (folder / "bin" / "pip").write_text(f"#!{made_in or folder}/bin/python\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("file", ["noxfile.py", "benchmarks/__init__.py", "benchmarks/installation.py"])
def test_an_old_python_can_read_the_files(file: str) -> None:
    ast.parse((ROOT / file).read_text(encoding="utf-8"), feature_version=(3, 6))


@pytest.mark.parametrize("version", [(3, 6), (3, 10), (3, 14)])
@pytest.mark.parametrize("name", ["__main__", "user_nox_module"], ids=["python3 noxfile.py", "nox"])
def test_another_python_is_refused_in_one_sentence(version: tuple[int, int], name: str) -> None:
    """A later version would compile packages for an hour; an earlier one ended in two tracebacks."""
    faked = f"import runpy, sys; sys.version_info = {(*version, 0)}; runpy.run_path('noxfile.py', run_name='{name}')"
    done = subprocess.run([sys.executable, "-c", faked], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (sentence,) = done.stderr.splitlines()
    assert (
        f"needs Python 3.11, 3.12 or 3.13, but this is Python {version[0]}.{version[1]} ({sys.executable})" in sentence
    )
    assert re.search(r": (run|install one of them, then run) python3\.1[123] noxfile.py -s digits$", sentence)


def test_the_package_takes_the_same_pythons(installation: ModuleType) -> None:
    wanted = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert installation.PYTHONS == ((3, 11), (3, 12), (3, 13))
    assert wanted is not None and wanted[1] == ">=3.11,<3.14"


def gone(folder: Path) -> None:
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to(folder / "removed")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (gone, "its Python is gone"),
        (lambda folder: (folder / "bin" / "python").chmod(0o644), "its Python does not start"),
        (lambda folder: program(folder / "bin" / "python", "exit 127"), "its Python does not start"),
        (lambda folder: program(folder / "bin" / "python", "echo 3.10"), f"it has Python 3.10, not {OWN}"),
        (lambda folder: program(folder / "bin" / "python", f"echo {OWN}; exit 1"), "it has no pip"),
        (lambda folder: (folder / "bin" / "pip").unlink(), "it was made in another folder"),
        (lambda folder: environment(folder, made_in=Path("/elsewhere/.venv")), "it was made in another folder"),
    ],
    ids=["gone", "not a program", "does not start", "another version", "no pip", "half", "moved"],
)
def test_an_unfit_environment_is_made_anew(
    damage: Callable[[Path], Any],
    reason: str,
    installation: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(installation, "_create", made.append)
    folder = environment(tmp_path / ".venv")
    installation.ensure(folder)
    assert made == [], "a good environment was made anew"
    damage(folder)
    installation.ensure(folder)
    assert made == [folder]
    assert capsys.readouterr().out == f"ratebench > making .venv anew: {reason}\n"


def test_an_environment_is_made_and_cleared(installation: ModuleType, tmp_path: Path) -> None:
    folder = environment(tmp_path / ".venv", "echo 3.10")
    (folder / "left").touch()
    installation._create(folder, "--without-pip")
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([folder / "bin" / "python", "-c", version], capture_output=True, text=True, check=True)
    assert done.stdout == f"{OWN}\n" and not (folder / "left").exists()


def test_a_folder_that_is_no_environment_is_left_alone(installation: ModuleType, tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "thesis.txt").touch()
    with pytest.raises(installation.Problem, match=r"\.venv is not a virtual environment, so it is left as it is"):
        installation.ensure(tmp_path / ".venv")
    assert (tmp_path / ".venv" / "thesis.txt").exists()


@pytest.mark.parametrize("python", [f"echo {OWN}", "echo 3.10"])
def test_what_a_link_leads_to_is_used_but_never_cleared(installation: ModuleType, tmp_path: Path, python: str) -> None:
    """Wrong code that this finds: `venv --clear` through the link, which empties a folder elsewhere."""
    shared = environment(tmp_path / "shared", python)
    (shared / "thesis.txt").touch()
    (tmp_path / ".venv").symlink_to(shared)
    if "3.10" in python:
        with pytest.raises(installation.Problem, match=r"\.venv is a link to .*shared, where no environment is made"):
            installation.ensure(tmp_path / ".venv")
    else:
        installation.ensure(tmp_path / ".venv")
    assert (shared / "thesis.txt").exists() and (shared / "pyvenv.cfg").exists()


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nowhere")], ids=["file", "dangling link"])
def test_something_else_in_the_place_of_an_environment_is_a_sentence(
    installation: ModuleType, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / ".venv")
    with pytest.raises(installation.Problem, match=r"\.venv is a .*, where no environment is made: rename it"):
        installation.ensure(tmp_path / ".venv")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("The virtual environment was not created successfully because ensurepip is not\navailable.", "python3-venv"),
        ("/usr/bin/python3: No module named venv", "python3-venv"),
        ("Error: [Errno 28] No space left on device", r"\.venv: Error: \[Errno 28\] No space left on device$"),
    ],
)
def test_python_without_venv_names_what_to_install(
    said: str, sentence: str, installation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = program(tmp_path / "base", f"echo '{said}' >&2; exit 1")
    monkeypatch.setattr(sys, "_base_executable", str(base))
    with pytest.raises(installation.Problem, match=sentence) as caught:
        installation.ensure(tmp_path / ".venv")
    assert "\n" not in str(caught.value)


OFFLINE = """WARNING: Retrying (Retry(total=4, ...)) after connection broken by 'NewConnectionError': /simple/setuptools/
ERROR: Could not find a version that satisfies the requirement setuptools>=77 (from versions: none)
ERROR: No matching distribution found for setuptools>=77"""


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            OFFLINE,
            "No matching distribution found for setuptools>=77; the package index can't be reached, so check the",
        ),
        ("ERROR: No matching distribution found for x==9", r"the suite: No matching distribution found for x==9 \(log"),
        (
            "ERROR: [Errno 28] No space left on device\n\nnote: ask the authors",
            r"the suite: \[Errno 28\] No space left",
        ),
        ("python: No module named pip", r"the suite: python: No module named pip \("),
        ("", "the suite: it gave no reason"),
    ],
)
def test_a_failure_of_pip_is_one_sentence(said: str, sentence: str, installation: ModuleType, tmp_path: Path) -> None:
    python = program(tmp_path / "python", f"cat <<'END'\n{said}\nEND\nexit 1")
    log = tmp_path / ".nox" / "install.log"
    with pytest.raises(installation.Problem, match=sentence) as caught:
        installation.pip(python, "the suite", [], log)
    assert "\n" not in str(caught.value) and str(log) in str(caught.value)
    assert log.read_text(encoding="utf-8") == f"{said}\n"


def test_progress_is_shown_while_pip_works(
    installation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    many = "\n".join(f"echo Requirement already satisfied: package{i}" for i in range(300))
    large = "echo '  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (191.8 MB)'"
    small = "echo '  Downloading six-1.17.0-py2.py3-none-any.whl (11 kB)'"
    python = program(tmp_path / "python", f"{many}\n{large}\n{small}")
    installation.pip(python, "the suite", [], tmp_path / ".nox" / "install.log")
    first, download, last = capsys.readouterr().out.splitlines()
    assert first == "ratebench > installing the suite (log: .nox/install.log)"
    assert re.fullmatch(r"ratebench > installing the suite, \d+ s: Downloading torch-2.13.0 \(191.8 MB\)", download)
    assert re.fullmatch(r"ratebench > installed the suite in \d+ s", last)
    monkeypatch.setattr(installation, "EVERY", 0)
    installation.pip(python, "the suite", [], tmp_path / ".nox" / "install.log")
    assert len(capsys.readouterr().out.splitlines()) > 300, "no line after EVERY seconds"


def test_a_silent_pip_does_not_silence_the_progress(
    installation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "EVERY", 0.01)
    go = tmp_path / "go"
    python = program(tmp_path / "python", f"while [ ! -e {go} ]; do :; done; echo ready")
    with (tmp_path / "log").open("w", encoding="utf-8") as file:
        lines = installation._output([str(python)], file)
        assert next(lines) == "", "it waits for pip's next line"
        go.touch()
        assert [line for line in lines if line] == ["ready\n", installation.DONE]


def test_ctrl_c_ends_pip_and_is_one_sentence(
    installation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    monkeypatch.setattr(installation, "ensure", lambda folder: None)
    monkeypatch.setattr(installation, "_step", lambda line: (_ for _ in ()).throw(KeyboardInterrupt))
    program(tmp_path / ".venv" / "bin" / "python", '[ "$1" = -c ] && exit 1\necho Collecting; while :; do :; done')
    with pytest.raises(SystemExit, match="interrupted: run the same command again"):
        installation.bootstrap([])
    assert started[-1].poll() is not None, "pip still runs"


@pytest.fixture
def suite(installation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The suite's environment with a fake Python; `asked` are the calls of pip, and `fails` the lines of a failing build."""

    class Suite:
        folder, asked, fails = tmp_path / ".nox" / "ratebench", [], 0

        def left_out(self) -> str:
            return (self.folder / "nncodec-left-out.txt").read_text(encoding="utf-8")

    made = Suite()
    made.asked = []

    def pip(python: Path, what: str, *rest: Any, **more: Any) -> None:
        made.asked.append(what)
        if made.fails:
            raise installation.Problem("pip can't install NNCodec: error: command 'g++' failed (log: .nox/nncodec.log)")

    monkeypatch.setattr(installation, "pip", pip)
    monkeypatch.setattr(installation, "_check_compiler", lambda: None)
    monkeypatch.setattr(installation, "_packages", lambda folder: folder)
    monkeypatch.setattr(
        installation, "_create", lambda folder, *_: environment(folder, 'echo \'{"version": "2.1.3"}\'')
    )
    environment(made.folder)
    return made


def test_nncodec_is_installed_once_apart_from_the_suite(installation: ModuleType, suite: Any, tmp_path: Path) -> None:
    for _ in range(2):
        installation.nncodec(suite.folder)
    assert suite.asked == ["NNCodec"]
    assert (suite.folder / "nncodec" / "suite.pth").read_text(encoding="utf-8") == f"{suite.folder}\n"
    (tmp_path / installation.NNCODEC / "constraints.txt").write_text("nncodec==2.1.4\n", encoding="utf-8")
    installation.nncodec(suite.folder)
    assert suite.asked == ["NNCodec"] * 2, "a new pin is not installed"


def test_a_build_that_fails_leaves_nncodec_out_and_is_tried_again(
    installation: ModuleType, suite: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.fails = True
    installation.nncodec(suite.folder)  # no exception: everything else goes on
    said = "NNCodec (method nnc) is left out: pip can't install NNCodec: error: command 'g++' failed (log: .nox/nncodec.log)\n"
    assert suite.left_out() == said and capsys.readouterr().out == f"ratebench > {said}"
    assert not (suite.folder / "nncodec").exists()
    suite.fails = False
    installation.nncodec(suite.folder)
    assert suite.asked == ["NNCodec"] * 2
    assert not (suite.folder / "nncodec-left-out.txt").exists()


def test_a_library_that_can_not_be_imported_is_left_out(
    installation: ModuleType, suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = '{"error": "ImportError: libGL.so.1: cannot open shared object file"}'
    monkeypatch.setattr(installation, "_create", lambda folder, *_: environment(folder, f"echo '{error}'"))
    installation.nncodec(suite.folder)
    assert suite.left_out() == (
        "NNCodec (method nnc) is left out: it can't be imported: "
        "ImportError: libGL.so.1: cannot open shared object file\n"
    )


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (None, "there is no C++ compiler"),
        ("exit 1", "does not work; install a C++"),
        (
            "echo 'fatal error: Python.h: No such file or directory' >&2; exit 1",
            "Python's C headers are missing; install",
        ),
    ],
    ids=["none", "broken", "no headers"],
)
def test_without_a_compiler_nncodec_is_left_out_with_advice(
    compiler: str | None, reason: str, installation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c++"
    if compiler is not None:
        program(path, compiler)
    monkeypatch.setenv("CXX", str(path))
    monkeypatch.setattr(installation, "pip", lambda *_, **__: pytest.fail("pip compiles without a compiler"))
    folder = environment(tmp_path / ".nox" / "ratebench")
    installation.nncodec(folder)
    said = (folder / "nncodec-left-out.txt").read_text(encoding="utf-8")
    assert reason in said and "apt install g++ python3-dev" in said and said.count("\n") == 1


def test_a_variable_that_is_no_command_is_a_reason(
    installation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "g++ 'unclosed")
    folder = environment(tmp_path / ".nox" / "ratebench")
    installation.nncodec(folder)
    said = (folder / "nncodec-left-out.txt").read_text(encoding="utf-8")
    assert 'the variable CXX is "g++ \'unclosed", which is no command (No closing quotation)' in said
    used: list[list[str]] = []
    monkeypatch.setattr(installation.shutil, "which", lambda name: used.append([name]))
    monkeypatch.setenv("CXX", "  ")
    with pytest.raises(installation.Problem, match="there is no C"):
        installation._check_compiler()
    assert used and used[0][0].strip()


def test_the_suite_does_not_pin_what_only_nncodec_needs() -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:])
    assert int(pinned["numpy"].split(".")[0]) >= 2 and "nncodec" not in pinned and "opencv-python" not in pinned
    apart = (ROOT / "methods/baselines/nnc/constraints.txt").read_text(encoding="utf-8")
    assert "nncodec==2.1.3" in apart and not re.search(r"^(numpy|torch)", apart, re.MULTILINE)
