"""`nox -s torture`: damaged files, kills and full disks in large numbers; see `--help`.

It goes on where it was interrupted: what has been tried is in `journal.jsonl` in its folder.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from goldens.samples import FOLDER
from torture import full, fuzz, kills
from torture.cells import ROOT
from torture.journal import Journal


def sources(folder: Path) -> dict[str, bytes]:
    """The golden files, and a file of every operating point of every method on the suite `digits`, which is run first."""
    command = [sys.executable, "-m", "benchmarks.cli", "run", "digits", "--network", "digits_cnn"]
    for budget in ("post-training", "short"):  # what fails is left out
        subprocess.run([*command, "--budget", budget, "--results", str(folder)], cwd=ROOT, check=False)
    files = {path.name: path.read_bytes() for path in sorted(FOLDER.glob("*.rbn"))}
    made = sorted(folder.rglob("*.rbn"))
    return files | {str(path.relative_to(folder)): path.read_bytes() for path in made}


def main() -> int:
    parser = argparse.ArgumentParser(prog="nox -s torture --", description=__doc__)
    parser.add_argument("--files", type=int, default=100_000, help="damaged files to decode")
    parser.add_argument("--kills", type=int, default=100, help="kills of running cells")
    parser.add_argument("--disks", type=int, default=10, help="sizes of full disks; needs root")
    parser.add_argument(
        "--method", nargs="+", default=["magnitude", "surp", "pq", "l1_filter"], help="killed and starved"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that decode")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / ".torture", help="results and journal")
    chosen = parser.parse_args()
    folder: Path = chosen.folder.resolve()
    journal = Journal(folder / "journal.jsonl")

    def say(message: str) -> None:
        print(message, flush=True)

    if chosen.files:
        fuzz.fuzz(sources(folder / "digits"), chosen.files, journal, say, chosen.jobs)
    kills.kills(chosen.kills, chosen.method, folder / "kills", journal, say)
    full.full(chosen.disks, chosen.method, folder / "disks", journal, say)
    (killed, after_kills), (disks, on_disks) = kills.summary(journal), full.summary(journal)
    wrong = [entry for entry in fuzz.tried(journal) if fuzz.bad(entry)]
    say(f"{len(fuzz.tried(journal)):,} damaged files: {fuzz.summary(journal)}")
    say(f"{killed} kills: {'; '.join(after_kills) or 'nothing left over, the same files'}")
    say(f"{disks} full disks: {'; '.join(on_disks) or 'one sentence each, then the same files'}")
    for entry in wrong[:20]:
        say(f"  {entry}")
    return 1 if wrong or after_kills or on_disks else 0


if __name__ == "__main__":
    sys.exit(main())
