"""Mutation testing of the core: small changes that make it wrong, and which of them no test notices.

`nox -s mutants -- --sample 300 --seed 1` tries a sample with mutmut (settings: `tool.mutmut` in pyproject.toml). Results are
kept in `mutants/`: the same command after an interruption tries what is left, and another seed adds to it. Survivors are
compared with `survivors.toml`, where each has a reason; the exit status is 1 if one is not listed there.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
import tomllib
from collections import Counter, deque
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KNOWN = Path(__file__).with_name("survivors.toml")
MUTMUT = (sys.executable, "-m", "mutmut")
NOTICED = {"killed", "timeout", "segfault"}
UNTRIED = "not checked"
ENDED = "suspicious"  # mutmut's limit of wall time, which a busy machine exceeds: nothing is known


def mutmut(*arguments: str) -> str:
    """What mutmut prints."""
    return subprocess.run([*MUTMUT, *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def run(*arguments: str) -> None:
    """`mutmut run`, which redraws one line; into a pipe, that line is printed once a minute."""
    process = subprocess.Popen(
        [*MUTMUT, "run", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    shown, last = time.monotonic(), deque[str](maxlen=60)
    for line in process.stdout or ():  # a redrawn line is a line here, too
        last.append(line)
        if sys.stdout.isatty() or time.monotonic() >= shown + 60:
            shown = time.monotonic()
            print(line.strip(), end="\r" if sys.stdout.isatty() else "\n", flush=True)
    if process.wait():
        sys.exit(f"mutmut ended with status {process.returncode}; it said last:\n{''.join(last)}")


def names() -> list[str]:
    """All mutants that mutmut has made, in an order that does not depend on the file system."""
    files = (ROOT / "mutants").rglob("*.meta")
    return sorted(name for file in files for name in json.loads(file.read_text())["exit_code_by_key"])


def outcomes() -> dict[str, str]:
    """What became of each mutant: "killed", "survived", "no tests", "not checked" and others."""
    lines = (line.strip().rpartition(": ") for line in mutmut("results", "--all", "true").splitlines())
    return {name: outcome for name, _, outcome in lines if "__mutmut_" in name}


def package(name: str) -> str:
    return ".".join(name.split(".")[:2])


def place(name: str) -> str:
    """The function of a mutant: mutmut adds "x_" or "xǁ…ǁ" and a number."""
    module, _, function = name.rpartition("__mutmut_")[0].rpartition(".")
    return f"{module}.{function.removeprefix('x').removeprefix('_').strip('ǁ').replace('ǁ', '.')}"


def change(name: str) -> str:
    """The lines that a mutant removes and adds."""
    lines = mutmut("show", name).splitlines()
    return "\n".join(f"{x[0]} {x[1:].strip()}" for x in lines if x[:1] in "+-" and x[:3] not in ("+++", "---"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sample", type=int, default=300, help="how many mutants to try")
    parser.add_argument("--seed", type=int, default=0, help="draws the sample")
    parser.add_argument(
        "--package", default="", help="only mutants whose name begins with this, e.g. benchmarks.papers"
    )
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    chosen = parser.parse_args()
    jobs = ("--max-children", str(chosen.jobs))
    if not names():
        run(*jobs, "benchmarks.papers.verdicts.*__mutmut_1")  # makes all mutants, measures all tests, tries these few
    named = [name for name in names() if name.startswith(chosen.package)]
    sample = random.Random(chosen.seed).sample(named, min(chosen.sample, len(named)))
    known = outcomes()
    if left := [name for name in sample if known.get(name, UNTRIED) in (UNTRIED, ENDED)]:
        run(*jobs, *left)  # mutmut tries again what it is given by name
        known = outcomes()
    found = {name: outcome for name, outcome in known.items() if outcome not in (UNTRIED, "skipped", ENDED)}
    listed = {(s["where"], s["change"]) for s in tomllib.loads(KNOWN.read_text(encoding="utf-8"))["survivor"]}
    survived = {name: (place(name), change(name)) for name in sorted(found) if found[name] not in NOTICED}
    missing = [
        f"[[survivor]]\nwhere = {where!r}\nchange = '''\n{lines}'''\nreason = ''  # {name}: {found[name]}"
        for name, (where, lines) in survived.items()
        if (where, lines) not in listed
    ]
    tried, killed = (Counter(map(package, some)) for some in (found, [n for n in found if found[n] in NOTICED]))
    print(*(f"{name}: {killed[name]} of {tried[name]} killed" for name in sorted(tried)), sep="\n")
    if undecided := Counter(known.values())[ENDED]:
        print(f"{undecided} not decided, because their tests took too long: run again on an idle machine")
    if missing:
        print(f"\nNot in {KNOWN.relative_to(ROOT)}:\n", *missing, sep="\n\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
