#!/usr/bin/env python3
"""The sessions of RateBench; `nox -l` lists them. Without nox, `python3 noxfile.py -s digits` installs it first."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from benchmarks import installation  # noqa: E402

try:
    import nox
except ImportError:  # nox is not installed: install it into .venv, and run this file again there
    if __name__ != "__main__":
        raise
    sys.exit(installation.bootstrap(sys.argv[1:]))

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["digits"]
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"

PYPROJECT = nox.project.load_toml("pyproject.toml")
# torch is large: all sessions that need it share one environment.
ENVIRONMENT = HERE / ".nox" / "ratebench"
BIN = ENVIRONMENT / installation.SCRIPTS


def verb(function):
    """A session that runs in the shared environment."""
    return nox.session(venv_backend="none")(function)


def install(session: nox.Session, *groups: str, nncodec: bool = False) -> None:
    """Install the suite and some dependency groups into the shared environment, as pinned in constraints.txt.

    With `nncodec`, also the library of one baseline, if it can be built on this machine.
    """
    tools = nox.project.dependency_groups(PYPROJECT, *groups) if groups else ()
    python, log = installation.python_of(ENVIRONMENT), HERE / ".nox" / "install.log"
    try:
        installation.ensure(ENVIRONMENT)
        installation.pip(python, "the suite", ["-c", "constraints.txt", "-e", ".[peers]", *tools], log)
        if nncodec:
            installation.nncodec(ENVIRONMENT)
    except installation.Problem as problem:
        session.error(str(problem))


def run(session: nox.Session, program: str, *arguments: str) -> None:
    """Run a program of the shared environment. It is first on PATH, because DVC stages call `ratebench` by name."""
    path = os.pathsep.join((str(BIN), os.environ.get("PATH", "")))
    session.run(str(BIN / program), *arguments, external=True, env={"PATH": path})


def measure(session: nox.Session, suite: str, *options: str) -> None:
    """Run the cells without a valid record, then render the report of all records."""
    install(session, nncodec=True)
    run(session, "ratebench", "run", suite, *options, *session.posargs)
    run(session, "ratebench", "report", suite)


@verb
def digits(session: nox.Session) -> None:
    """Compress, decode and score small networks on the embedded digits; prints the path of the report."""
    jobs = str(min(4, os.cpu_count() or 1))  # its networks are too small for several cores
    measure(session, "digits", "--jobs", jobs)


@verb
def mnist(session: nox.Session) -> None:
    """Compress LeNet-5 and LeNet-300-100 without training, or a selection: `-- --budget short --method sap`."""
    jobs = [] if session.posargs else ["--jobs", str(min(4, os.cpu_count() or 1))]
    measure(session, "mnist", *jobs)


@verb
def cifar10(session: nox.Session) -> None:
    """Reproduce the CIFAR-10 leaderboard, or a selection: `-- --budget short --method surp`."""
    measure(session, "cifar10")


@verb
def imagenet(session: nox.Session) -> None:
    """Reproduce ImageNet (requirements: README), or a selection: `-- --method aq`; `-- --tiny` runs all on a few images."""
    if not session.posargs:
        install(session, "pipeline", nncodec=True)
        run(session, "dvc", "repro", "imagenet")
        return
    install(session, nncodec=True)
    arguments = [argument for argument in session.posargs if argument != "--tiny"]
    if "--tiny" in session.posargs:
        for budget in ("post-training", "short"):
            tried = ("imagenet-tiny", "--results", "results/.tiny", "--budget", budget)
            run(session, "ratebench", "run", *tried, *arguments)
        return
    run(session, "ratebench", "prepare", "imagenet")
    run(session, "ratebench", "run", "imagenet", *arguments)
    run(session, "ratebench", "report", "imagenet")


@verb
def kodak(session: nox.Session) -> None:
    """Fit networks to 24 photographs and code them, or a selection: `-- --method jpeg`; `-- --tiny` runs all on three."""
    install(session, nncodec=True)
    arguments = [argument for argument in session.posargs if argument != "--tiny"]
    if "--tiny" in session.posargs:
        run(session, "ratebench", "train", "kodak", "kodim0[123]_tiny")
        run(session, "ratebench", "run", "kodak-tiny", "--results", "results/.tiny", *arguments)
        return
    run(session, "ratebench", "train", "kodak", "kodim??_short")
    run(session, "ratebench", "run", "kodak", *arguments)
    run(session, "ratebench", "draw", "kodak", "192")
    run(session, "ratebench", "report", "kodak")


@verb
def report(session: nox.Session) -> None:
    """Render the reports of suites (`-- digits`; default: cifar10) from their records."""
    install(session)
    for suite in session.posargs or ["cifar10"]:
        run(session, "ratebench", "report", suite)


@verb
def verify(session: nox.Session) -> None:
    """Decode and score existing artefacts again (`-- digits`; default: cifar10)."""
    install(session, nncodec=True)
    for suite in session.posargs or ["cifar10"]:
        run(session, "ratebench", "verify", suite)


@verb
def new_method(session: nox.Session) -> None:
    """Write the template of a new method: `nox -s new_method -- key`."""
    install(session)
    run(session, "ratebench", "new-method", *session.posargs)


@verb
def repro(session: nox.Session) -> None:
    """Run the stale stages of dvc.yaml; arguments go to `dvc repro`."""
    install(session, "pipeline", nncodec=True)
    run(session, "dvc", "repro", *session.posargs)


@verb
def tests(session: nox.Session) -> None:
    """Run the tests, a file in one process; those on real CIFAR-10 need RATEBENCH_MIRROR or a filled cache."""
    install(session, "test", "pipeline", nncodec=True)
    processes = str(min(4, os.cpu_count() or 1))
    run(session, "pytest", "--numprocesses", processes, "--dist", "loadfile", *session.posargs)


@verb
def perf(session: nox.Session) -> None:
    """Time the hot paths against a naive loop or another library in the same run; prints ratios."""
    install(session, "test")
    run(session, "pytest", "benchmarks/perf", "-q", "-s", *session.posargs)


@verb
def torture(session: nox.Session) -> None:
    """Decode 100,000 damaged files, kill 100 runs, fill 10 disks; long, resumable: `-- --files 2000 --kills 5 --disks 0`."""
    install(session, nncodec=True)  # its bitstreams are decoded, too
    run(session, "python", "tests/run_torture.py", *session.posargs)


@verb
def types(session: nox.Session) -> None:
    """Check the types of the interface, the bitstream and the records (mypy, strict)."""
    install(session, "types")
    run(session, "mypy")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and spelling (ruff, codespell)."""
    session.install("--quiet", "-c", "constraints.txt", *nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell", "methods", "benchmarks", "tests", "README.md", "CONTRIBUTING.md", "CHANGELOG.md")


@verb
def mutants(session: nox.Session) -> None:
    """Change the core in small ways, and list what no test notices: `-- --sample 300 --seed 1`; goes on where it ended."""
    install(session, "test", "mutants")
    run(session, "python", "tests/mutants/run.py", *session.posargs)


if __name__ == "__main__":
    nox.main()
