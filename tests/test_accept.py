"""`ratebench accept`, on a small git repository that is a copy of the project with records of two fast methods on digits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import Copy
from invented import made
from places import TESTS, python_path
from test_runner import COMMAND, InProcess, wait_until

from benchmarks import cli, records
from benchmarks.errors import RateBenchError
from benchmarks.evaluation import measure
from benchmarks.running import accept, freshness, params, plan, schedule, small
from benchmarks.running.small import Evidence
from benchmarks.running.state import state

TABLE = "benchmarks/equivalents.toml"
PARAMS = {
    "digits": {"task": "digits", "networks": ["digits_cnn"], "methods": ["magnitude", "uniform"], "seeds": [0]},
    "budgets": {"post-training": {"epochs": 0}},
    "configs": {"post-training": {"magnitude": [{"sparsities": [0.5]}], "uniform": [{"steps": [0.5, 1.1]}]}},
}
CODEC = "benchmarks/bitstream/codecs/uniform.py"  # both methods write it
QUANTISED = "    return np.rint(array / _along_first(steps, array.ndim)).astype(np.int64), steps\n"
REWRITTEN = "    codes = np.rint(array / _along_first(steps, array.ndim))\n    return codes.astype(np.int64), steps\n"


class Repository(Copy):
    """The copy under git, with a results folder beside it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.results = root / "results"
        (root / TABLE).unlink(missing_ok=True)
        self.write("params.yaml", yaml.safe_dump(PARAMS))
        self.write(".gitignore", "results\n__pycache__\n")
        # What will be taken away: a file that says something and is imported by the codec for nothing.
        self.write("benchmarks/bitstream/old.py", "OLD = 1\n")
        self.edit(CODEC, "import numpy as np\n", "import numpy as np\nfrom benchmarks.bitstream import old\n")
        self.git("init", "-q")
        self.commit("first")

    def git(self, *arguments: str) -> str:
        names = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *names, *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.cli", *arguments]
        environment = os.environ | {"PYTHONPATH": python_path(self.root), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, cwd=self.root, env=environment, stderr=subprocess.PIPE, text=True)

    def to_run(self) -> set[str]:
        """The methods whose cells would be run (again)."""
        with self.at_hand():
            return {cell.method for cell in plan.cells("digits") if state(cell, self.results) is None}

    @property
    def accepted(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = tomllib.loads((self.root / TABLE).read_text())["accepted"]
        return found


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """With records that are of its first commit."""
    repository = Repository(tmp_path_factory.mktemp("accept") / "checkout")
    with pytest.MonkeyPatch.context() as patch, repository.at_hand():
        patch.chdir(repository.root)
        patch.setattr(schedule, "Scorer", InProcess)
        patch.setattr(measure, "latency_ms", lambda *_: 1.0)
        params._params.cache_clear()
        outcomes = [outcome for _, outcome in schedule.run(plan.cells("digits"), repository.results, print)]
        assert outcomes == ["complete", "complete"]
    yield repository
    params._params.cache_clear()


@pytest.fixture
def repository(made_once: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    first = made_once.git("rev-list", "--max-parents=0", "HEAD")
    made_once.git("reset", "-q", "--hard", first)
    made_once.git("clean", "-qfd")
    monkeypatch.chdir(made_once.root)
    params._params.cache_clear()
    yield made_once
    assert len(made_once.git("worktree", "list").splitlines()) == 1  # none is left behind


def without_running(patch: pytest.MonkeyPatch) -> None:
    """The evidence is not what the test is about."""
    patch.setattr(small.Version, "run", lambda *_: None)
    patch.setattr(small, "compare", lambda *_: [Evidence("invented", 1, "0" * 64)])


@pytest.fixture
def accepted(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Evidence]]:
    """Accept in this process, as one of that checkout would; only the two versions have processes of their own."""

    def of(why: str = "It is tidier.", said: list[str] | None = None) -> list[Evidence]:
        with repository.at_hand():
            return accept.accept("HEAD", why, repository.results, [].append if said is None else said.append)

    monkeypatch.setattr(accept, "ROOT", repository.root)
    monkeypatch.setattr(small, "RATEBENCH", (sys.executable, "-c", COMMAND))
    monkeypatch.setenv("PYTHONPATH", python_path(TESTS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return of


@pytest.fixture
def ratebench(
    repository: Repository, accepted: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str]]:
    """The command in that checkout: (output, errors). As for `accepted`, only the two versions have processes."""

    def of(*arguments: str) -> tuple[str, str]:
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["ratebench", *arguments])
        with pytest.raises(SystemExit) as end, repository.at_hand():
            cli.main()
        said = capsys.readouterr()
        assert end.value.code == (1 if said.err else 0)
        return said

    return of


def test_a_rewrite_that_gives_the_same_files_is_accepted_with_its_evidence(
    repository: Repository, ratebench: Callable[..., tuple[str, str]]
) -> None:
    assert repository.to_run() == set()
    repository.edit(CODEC, QUANTISED, REWRITTEN)
    assert repository.to_run() == {"magnitude", "uniform"}
    said = ratebench("accept", "HEAD", "--why", 'The codes have a "name".')[0]
    assert "affected: 2; to compare under both versions, small cells: 2, networks of a task: 0" in said
    assert "accepted: 3 results in 2 comparisons are the same; commit benchmarks/equivalents.toml" in said
    (one,) = repository.accepted
    assert one["why"] == 'The codes have a "name".' and one["since"] == repository.git("rev-parse", "HEAD")
    assert [row["files"] for row in one["same"]] == [[CODEC]]
    assert {e["cell"].split("/")[2]: e["points"] for e in one["evidence"]} == {"magnitude": 1, "uniform": 2}
    assert all(re.fullmatch("[0-9a-f]{64}", e["sha256"]) for e in one["evidence"])
    planned = ratebench("plan", "digits")[0]
    assert planned.count("complete, ") == 2 and "to run" not in planned and repository.to_run() == set()
    further = REWRITTEN.replace("    return", "    codes = codes + 0\n    return")
    repository.edit(CODEC, REWRITTEN, further)
    assert repository.to_run() == {"magnitude", "uniform"}  # what is changed further needs a row of its own
    repository.edit(CODEC, further, REWRITTEN)
    repository.edit("methods/baselines/magnitude.py", "BITS = 8", "BITS = 7")
    assert repository.to_run() == {"magnitude"}


def test_files_that_are_split_merged_and_removed_are_carried_on_top_of_what_was_accepted(
    repository: Repository, accepted: Callable[..., list[Evidence]], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.edit(CODEC, QUANTISED, REWRITTEN)
    with monkeypatch.context() as patch:
        without_running(patch)
        accepted()
    assert repository.to_run() == set()
    second = repository.commit("second")
    text = (repository.root / CODEC).read_text()
    start, end = (text.index(name) for name in ("def quantise(", "def dequantise("))
    head = "import numpy as np\nimport numpy.typing as npt\n\nFloats = npt.NDArray[np.float32]\n\n\n"
    tail = text[text.index("def _along_first(") : text.index("def part(")]
    repository.write("benchmarks/bitstream/rounding.py", head + text[start:end] + tail)
    merged = "from benchmarks.bitstream.rounding import quantise, _along_first\n"
    text = text.replace(text[start:end], "").replace(tail, "").replace("from benchmarks.bitstream import old\n", merged)
    repository.write(CODEC, text)
    (repository.root / "benchmarks/bitstream/old.py").unlink()
    assert repository.to_run() == {"magnitude", "uniform"}
    assert len(accepted("The codec is two files.")) == 2
    first, again = repository.accepted
    assert [row["files"] for row in again["same"]] == [[CODEC, "benchmarks/bitstream/rounding.py"]]
    assert len(again["same"][0]["then"]) == 2 and again["since"] == second and first["since"] != second
    assert repository.to_run() == set()


def test_a_change_of_what_is_written_is_refused_and_named(
    repository: Repository, accepted: Callable[..., list[Evidence]]
) -> None:
    """Of the two methods that are affected one writes other files."""
    repository.edit(CODEC, QUANTISED, REWRITTEN)
    repository.edit("methods/baselines/magnitude.py", "BITS = 8", "BITS = 7")
    with pytest.raises(RateBenchError) as refusal:
        accepted()
    named = r"accept-digits/digits_cnn/magnitude/[0-9a-f]{8}-post-training-s0/p00"
    assert re.fullmatch(
        f"the change gives other results: {named}; nothing was accepted, the records of these methods are stale",
        str(refusal.value),
    )
    assert not (repository.root / TABLE).exists() and repository.to_run() == {"magnitude", "uniform"}


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("methods/baselines/magnitude.py", "BITS = 8", "BITS = 8 // 0", ".*ZeroDivisionError.*"),
        (
            CODEC,
            "    return np.rint(array",
            "    raise ValueError('no')\n    return np.rint(array",
            ".*ValueError: no.*",
        ),
    ],
    ids=["on import", "in a cell"],
)
def test_a_version_that_fails_is_refused_with_its_reason(
    file: str, old: str, new: str, reason: str, repository: Repository, accepted: Callable[..., list[Evidence]]
) -> None:
    repository.edit(file, old, new)
    sentence = f"^accept-digits/.*/magnitude/.* is not complete with the code now: {reason}; nothing was accepted$"
    with pytest.raises(RateBenchError, match=sentence):
        accepted()
    assert not (repository.root / TABLE).exists()


def test_what_changes_in_a_method_and_in_the_suite_is_carried_together(
    repository: Repository, accepted: Callable[..., list[Evidence]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function gets another name, there and where it is called; and a method is moved while it changes."""
    without_running(monkeypatch)
    for name in (CODEC, "methods/baselines/magnitude.py"):
        text = (repository.root / name).read_text()
        repository.write(name, text.replace("uniform.part(", "uniform.tensors(").replace("def part(", "def tensors("))
    repository.edit_everywhere(r"\buniform\.part\(", "uniform.tensors(")
    assert repository.to_run() == {"magnitude", "uniform"}
    accepted()
    assert repository.to_run() == set()


def test_a_file_that_is_only_removed_is_carried(
    repository: Repository, accepted: Callable[..., list[Evidence]], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_running(monkeypatch)
    repository.edit(CODEC, "from benchmarks.bitstream import old\n", "")
    assert repository.to_run() == {"magnitude", "uniform"}
    accepted()
    assert repository.to_run() == set()


def test_a_damaged_table_is_one_sentence(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a merge of two branches leaves it."""
    repository.write(TABLE, "<<<<<<< HEAD\n[[accepted]]\n")
    with pytest.raises(
        RateBenchError, match=r"^can't read the accepted changes in .*equivalents\.toml \(.*\): after a merge"
    ):
        repository.to_run()
    with repository.at_hand(), pytest.raises(RateBenchError, match="can't read the accepted changes"):
        freshness.current(list(records.load(repository.results, "digits")))


def test_where_no_record_is_concerned_there_is_nothing_to_accept(
    repository: Repository, ratebench: Callable[..., tuple[str, str]]
) -> None:
    """Another codec, a comment, and a method without records."""
    repository.write("benchmarks/bitstream/codecs/mask.py", "LIMIT = 1\n")
    repository.edit(CODEC, QUANTISED, f"    # the nearest\n{QUANTISED}")
    repository.edit("methods/baselines/reference.py", '("float32", "float16")\n', '("float16", "float32")\n')
    why = ("--why", "A comment.")
    nothing = "no record depends on the change: there is nothing to accept\n"
    assert ratebench("accept", "HEAD", *why) == (nothing, "") and not (repository.root / TABLE).exists()
    assert ratebench("accept", "HAED", *why) == ("", "error: 'HAED' is not a revision of this checkout\n")
    absent = "error: there is no folder nowhere: pass the folder of the records with --results\n"
    assert ratebench("accept", "HEAD", "--results", "nowhere", *why) == ("", absent)


def test_when_it_is_terminated_no_worktree_is_left(repository: Repository) -> None:
    repository.edit(CODEC, QUANTISED, REWRITTEN)
    with repository.start("accept", "HEAD", "--why", "It is tidier.") as process:
        wait_until(lambda: len(repository.git("worktree", "list").splitlines()) == 2, process)
        process.terminate()
        assert process.wait(60) == 143
    assert not (repository.root / TABLE).exists()  # and the fixture looks for the worktree


def test_without_git_there_is_a_sentence(
    repository: Repository, ratebench: Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        said = ratebench("accept", "HEAD", "--why", "It is tidier.")[1]
    assert said == "error: accept compares with an earlier revision and needs git: No such file or directory\n"


@pytest.fixture
def chosen(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The small cells that would be run for some records."""

    def of(*known: records.Record) -> list[str]:
        cells: list[str] = []
        monkeypatch.setattr(accept, "_recorded", lambda _: iter(known))
        monkeypatch.setattr(small.Version, "run", lambda *_: None)
        monkeypatch.setattr(small, "compare", lambda before, now, found: cells.extend(cell.id for cell in found) or [])
        monkeypatch.setattr(accept, "ROOT", repository.root)
        with repository.at_hand():
            accept.accept("HEAD", "Why not?", repository.results, [].append)
        return sorted(re.sub("/[0-9a-f]{8}-", "/", cell) for cell in cells)

    return of


def recorded(method: str, network: str, budget: str = "post-training", **changes: Any) -> records.Record:
    config, epochs = changes.pop("config", {}), {"post-training": 0.0, "short": 2.5, "paper": None}[budget]
    task = "cifar10" if network.startswith("resnet") else "digits"
    return made(method, network=network, task=task, config=config, budget=budget, epochs=epochs, **changes)


def test_all_that_changed_takes_part_in_a_small_cell(repository: Repository, chosen: Callable[..., list[str]]) -> None:
    """On digits if it does there; of each method, configuration and architecture, with and without training, one cell."""
    known = [
        recorded("magnitude", "resnet20"),
        recorded("magnitude", "resnet56"),
        recorded("magnitude", "resnet20", seed=1),
        recorded("magnitude", "resnet20", budget="short"),
        recorded("magnitude", "resnet20", config={"score": "lamp"}),
        recorded("reference", "resnet20"),
        recorded("gone", "resnet20"),
    ]
    repository.edit("benchmarks/bitstream/codecs/sparse.py", "    masks = [", "    masks = []\n    masks = [")
    on_digits = ["accept-digits/digits_cnn/magnitude/post-training-s0"] * 2
    assert chosen(*known) == [*on_digits, "accept-digits/digits_cnn/magnitude/short-s0"]
    repository.edit("benchmarks/data/cifar.py", "torch.tensor(data.targets)", "torch.tensor([*data.targets])")
    on_cifar = [f"accept-cifar10/resnet20/magnitude/{label}" for label in ("post-training-s0",) * 2 + ("short-s0",)]
    assert chosen(*known) == [*on_cifar, "accept-cifar10/resnet20/reference/post-training-s0"]


def test_a_file_that_is_only_removed_takes_part_in_a_small_cell(
    repository: Repository, chosen: Callable[..., list[str]]
) -> None:
    repository.edit(CODEC, "from benchmarks.bitstream import old\n", "")
    found = chosen(recorded("uniform", "resnet20"), recorded("magnitude", "digits_cnn"), recorded("nnc", "resnet20"))
    assert found == [f"accept-digits/digits_cnn/{key}/post-training-s0" for key in ("magnitude", "uniform")]


def test_a_paper_budget_is_shown_by_its_own_schedule(repository: Repository, chosen: Callable[..., list[str]]) -> None:
    """What is the same at the short budget need not be the same at the paper budget, which can't be made short."""
    known = [recorded("surp", "resnet20", budget="short"), recorded("surp", "resnet20", budget="paper")]
    repository.edit("methods/surp/__init__.py", "MILESTONES = 0.01, 20, ", "MILESTONES = 0.01, 21, ")
    assert chosen(*known) == [f"accept-digits/digits_cnn/surp/{budget}-s0" for budget in ("paper", "short")]
    repository.edit("benchmarks/data/cifar.py", "torch.tensor(data.targets)", "torch.tensor([*data.targets])")
    sentence = (
        "^no small cell uses all the changed code of surp on cifar10 at the paper budget, whose schedule can't be made"
    )
    with pytest.raises(RateBenchError, match=sentence):
        chosen(*known)


def test_a_file_that_some_cells_used_before_may_be_shared(
    repository: Repository, accepted: Callable[..., list[Evidence]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the two methods, only magnitude wrote the sparse codec before."""
    without_running(monkeypatch)
    repository.edit(CODEC, "from benchmarks.bitstream import old\n", "from benchmarks.bitstream.codecs import sparse\n")
    repository.edit(CODEC, QUANTISED, f"    sparse.part\n{QUANTISED}")
    assert repository.to_run() == {"magnitude", "uniform"}
    accepted()
    assert repository.to_run() == set()


def test_where_only_a_task_changed_what_it_gives_is_compared(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another network in the task's list leaves its records valid, without running a cell; other items do not."""
    monkeypatch.setattr(small.Version, "run", lambda *_: pytest.fail("a cell was run"))
    monkeypatch.setattr(accept, "ROOT", repository.root)
    monkeypatch.setattr(small.task_values, "__file__", str(repository.root / "benchmarks/running/task_values.py"))
    monkeypatch.setenv("PYTHONPATH", python_path(TESTS))

    def accepted() -> list[Evidence]:
        with repository.at_hand():
            return accept.accept("HEAD", "It has one more.", repository.results, [].append)

    task, first = "benchmarks/tasks/digits.py", '    "digits_resnet": ('
    repository.edit(task, first, f'    "wide": ("digits_cnn", {{"width": 64, "classes": 10}}),\n{first}')
    assert repository.to_run() == {"magnitude", "uniform"}
    (found,) = accepted()
    assert (found.cell, found.points) == ("digits/digits_cnn", 10) and repository.to_run() == set()
    repository.commit("a network")
    repository.edit(task, "SIZES = (1197, 200, 400)", "SIZES = (1196, 201, 400)")
    with pytest.raises(RateBenchError, match=r"gives other results: digits/digits_cnn, .* more; nothing was"):
        accepted()
    assert repository.to_run() == {"magnitude", "uniform"}
