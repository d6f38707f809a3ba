"""The virtual environments of the sessions: made with the Python that runs this, checked, and filled by pip.

This file and noxfile.py have to be readable by old Pythons, so that these can say which Python is needed.
"""

import json
import os
import queue
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

PYTHONS = ((3, 11), (3, 12), (3, 13))  # all pinned packages have wheels for these


def check_python(version):
    """End the program if its Python is not one of PYTHONS."""
    if tuple(version[:2]) not in PYTHONS:
        names = [f"python{major}.{minor}" for major, minor in PYTHONS]
        found = [name for name in names if shutil.which(name)]
        advice = f"run {found[-1]}" if found else f"install one of them, then run {names[-1]}"
        this = f"Python {version[0]}.{version[1]} ({sys.executable})"
        sys.exit(f"RateBench needs Python 3.11, 3.12 or 3.13, but this is {this}: {advice} noxfile.py -s digits")


check_python(sys.version_info)

HERE = Path(__file__).resolve().parent.parent
NNCODEC = Path("methods", "baselines", "nnc")
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
EVERY = 20  # seconds between two lines of progress
LARGE = 20  # MB of a download that gets a line of its own
OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
COMPILER = "install a C++ compiler (Debian, Ubuntu: apt install g++ python3-dev) and run again"


class Problem(Exception):
    """An environment can't be made or filled; the message is one sentence."""


def python_of(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / SCRIPTS / ("python.exe" if os.name == "nt" else "python")


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(f"ratebench > {line}", flush=True)


def _run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    given = {} if "input" in options else {"stdin": subprocess.DEVNULL}
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, **given, **options)


def _last(text: str) -> str:
    """The last line that says something."""
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["it gave no reason"])[-1]


def ensure(folder: Path) -> None:
    """Make an environment with pip, or make it anew if it is broken, moved or of another Python version.

    A link to an environment elsewhere is used, but what it leads to is never cleared.
    """
    if folder.is_dir() and any(folder.iterdir()):
        reason = _unfit(folder)
        if reason is None:
            return
        if not (folder / "pyvenv.cfg").is_file():
            msg = f"{folder} is not a virtual environment, so it is left as it is: rename it and run again"
            raise Problem(msg)
        say(f"making {folder.relative_to(HERE)} anew: {reason}")
    else:
        say(f"making {folder.relative_to(HERE)}")
    _create(folder)


def _unfit(folder: Path) -> str | None:
    """Why an environment can't be used, or None."""
    python = python_of(folder)
    if not python.exists():
        return "its Python is gone"
    try:
        done = _run([str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2]); import pip"], timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return "its Python does not start"
    version = done.stdout.partition("\n")[0]
    if version != OWN:
        return f"it has Python {version}, not {OWN}" if version else "its Python does not start"
    if done.returncode != 0:
        return "it has no pip"
    script = folder / SCRIPTS / "pip"
    begin = script.read_bytes()[:1000] if script.is_file() else b""
    if os.name != "nt" and not any(os.fsencode(place) in begin for place in (folder, folder.resolve())):
        return "it was made in another folder"
    return None


def _create(folder: Path, *options: str) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = f"a link to {folder.readlink()}" if folder.is_symlink() else "a file"
        msg = f"{folder} is {what}, where no environment is made: rename it and run again"
        raise Problem(msg)
    base = getattr(sys, "_base_executable", None) or sys.executable  # this Python may be in the folder that is cleared
    done = _run([base, "-m", "venv", "--clear", *options, str(folder)])
    if done.returncode == 0:
        return
    said = done.stdout + done.stderr
    if "ensurepip" in said or "No module named" in said:
        advice = f"install it (Debian, Ubuntu: apt install python3-venv or python{OWN}-venv) and run again"
        msg = f"can't make {folder}: {base} lacks venv or ensurepip; {advice}"
    else:
        msg = f"can't make {folder}: {_last(said)}"
    raise Problem(msg)


def pip(python: Path, what: str, arguments: list[str], log: Path, into: "Path | None" = None) -> None:
    """`pip install` with lines of progress; `what` names it in messages, and `log` gets pip's whole output.

    With `into`, the packages go into the environment of that Python, which needs no pip.
    """
    other = ["--python", str(into)] if into else []
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command = [str(python), "-m", "pip", *other, "install", *options, *arguments]
    start = shown = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    say(f"installing {what} (log: {log.relative_to(HERE)})")
    step, said = "pip starts", []
    with log.open("w", encoding="utf-8", errors="replace") as file:
        for line in _output(command, file):
            said.append(line)
            step = _step(line) or step
            if time.monotonic() >= shown + EVERY or _is_large(line):
                shown = time.monotonic()
                say(f"installing {what}, {shown - start:.0f} s: {step}")
    if said[-1:] != [DONE]:
        msg = f"pip can't install {what}: {_complaint(''.join(said))} (log: {log})"
        raise Problem(msg)
    say(f"installed {what} in {time.monotonic() - start:.0f} s")


DONE = "done\n"


def _output(command, file):
    """The lines of a program's output, written to `file` as well, "" every few seconds without one, and DONE if it succeeds."""
    lines: queue.Queue[str | None] = queue.Queue()
    process = subprocess.Popen(
        command,
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
    )

    def read() -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        while True:
            try:
                line = lines.get(timeout=EVERY / 4)
            except queue.Empty:
                line = ""
            if line is None:
                break
            file.write(line)
            yield line
        if process.wait() == 0:
            yield DONE
    finally:
        if process.poll() is None:  # interrupted; it has got ctrl-C as well
            process.terminate()
            process.wait()


def _step(line: str) -> str | None:
    """What pip is doing, from a line of its output; None for lines that do not say."""
    found = re.match(r"\s*(Collecting|Downloading|Building|Installing|Preparing|Processing|Obtaining)\b.*", line)
    if found is None:
        return None
    if "Installing collected packages" in line:
        return f"unpacking {line.count(',') + 1} packages"
    step = re.sub(r"\S*/(?=\S)", "", found.group().strip())  # without the folders of addresses
    return re.sub(r"(-\d[^-\s]*)-\S*\.whl", r"\1", step)[:100]


def _is_large(line: str) -> bool:
    """Whether a line announces a large download."""
    size = re.match(r"\s*Downloading .*\(([\d.]+) (MB|GB)\)", line)
    return size is not None and (size.group(2) == "GB" or float(size.group(1)) >= LARGE)


def _complaint(text: str) -> str:
    """pip's last error as one line."""
    errors = re.findall(r"^ERROR: *(.*)", text, re.MULTILINE)
    last = errors[-1] if errors else _last(text)
    if "Retrying (Retry(" in text and "No matching distribution" in last:
        last += "; the package index can't be reached, so check the network and pip's settings"
    return last


def nncodec(suite: Path) -> None:
    """Install NNCodec into an environment inside the suite's; without it, the method nnc is left out, with the reason.

    Its environment has the suite's packages after its own: torch is not installed twice.
    """
    wanted, folder, reason = HERE / NNCODEC / "constraints.txt", suite / "nncodec", suite / "nncodec-left-out.txt"
    stamp = folder / "installed.txt"
    if stamp.is_file() and stamp.read_bytes() == wanted.read_bytes():
        return
    try:
        _check_compiler()
        _create(folder, "--without-pip")
        own, behind = _packages(folder), _packages(suite)
        (own / "suite.pth").write_text(f"{behind}\n", encoding="utf-8")
        log = HERE / ".nox" / "nncodec.log"
        pip(python_of(suite), "NNCodec", ["--no-deps", "-r", str(wanted)], log, into=python_of(folder))
        began = _run([str(python_of(folder)), str(HERE / NNCODEC / "worker.py")])
        said = json.loads(began.stdout.partition("\n")[0] or "{}")  # the worker's first message
        if "version" not in said:
            msg = f"it can't be imported: {said.get('error') or _last(began.stderr)}"
            raise Problem(msg)
    except Problem as problem:
        shutil.rmtree(folder, ignore_errors=True)
        said = f"NNCodec (method nnc) is left out: {problem}"
        reason.write_text(f"{said}\n", encoding="utf-8")
        say(said)
        return
    stamp.write_bytes(wanted.read_bytes())
    if reason.exists():
        reason.unlink()


def _packages(folder: Path) -> Path:
    """The folder of an environment's packages."""
    return Path(
        _run([str(python_of(folder)), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).stdout.strip()
    )


def _check_compiler() -> None:
    """Raise Problem unless a C++ file that includes Python's header can be compiled."""
    wanted = os.environ.get("CXX", "").strip()
    try:
        compiler = shlex.split(wanted) or shlex.split(sysconfig.get_config_var("CXX") or "c++")
    except ValueError as error:
        msg = f"the variable CXX is {wanted!r}, which is no command ({error}): correct or unset it and run again"
        raise Problem(msg) from error
    if shutil.which(compiler[0]) is None:
        msg = f"there is no C++ compiler ({compiler[0]}); {COMPILER}"
        raise Problem(msg)
    command = [*compiler, "-fsyntax-only", "-I", sysconfig.get_paths()["include"], "-x", "c++", "-"]
    done = _run(command, input="#include <Python.h>\n")
    if done.returncode != 0:
        missing = "Python.h" in done.stderr
        why = "Python's C headers are missing" if missing else f"the C++ compiler {compiler[0]} does not work"
        msg = f"{why}; {COMPILER}"
        raise Problem(msg)


def bootstrap(arguments: list[str]) -> int:
    """Install nox into .venv and run noxfile.py there; returns its exit status."""
    folder, pinned = HERE / ".venv", ["-c", str(HERE / "constraints.txt"), "nox", "virtualenv"]
    python = python_of(folder)
    try:
        ensure(folder)
        if _run([str(python), "-c", "import nox, virtualenv"]).returncode != 0:
            pip(python, "nox", pinned, HERE / ".nox" / "nox.log")
        imported = _run([str(python), "-c", "import nox, virtualenv"])
        if imported.returncode != 0:
            msg = f"nox can't be imported in {folder}: {_last(imported.stderr)}"
            raise Problem(msg)
    except Problem as problem:
        sys.exit(str(problem))
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to go on")
    process = subprocess.Popen([str(python), str(HERE / "noxfile.py"), *arguments])
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the process has got it as well, and ends
