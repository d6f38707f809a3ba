"""A change of the code makes stale what depends on it, and nothing else: on copies of the project, for every method."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import test_runner
from checkout import NETWORKS, Cells, Copy, Fingerprints, fingerprints
from test_runner import Laboratory

import methods
from benchmarks import fingerprint
from benchmarks.fingerprint import ROOT, Code
from benchmarks.running import cell

laboratory = test_runner.laboratory
MODULES = "benchmarks/bitstream/modules"
DIGITS = [network for network, task in NETWORKS.items() if task == "digits"]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Fingerprints:
    """All fingerprints of the code as it is: those of this checkout, although the copy lies elsewhere."""
    found = Copy(tmp_path_factory.mktemp("before")).fingerprints()
    assert found == fingerprints()
    assert len(set(found.values())) == len(found) == len(NETWORKS) * len(methods.names())
    return found


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "checkout")


class Grep:
    """Which files import which, by regular expressions over their text, and hence who depends on a file.

    Far simpler than what it is compared with: a package's own imports are all its users', wherever a name is made.
    """

    def __init__(self, copy: Copy) -> None:
        self.texts = {name: (copy.root / name).read_text("utf-8") for name in copy.files()}

    def imported(self, name: str) -> set[str]:
        found: set[str] = set()
        for module, names in re.findall(r"^ *from (\S+) import (\([^)]*\)|.*)$", self.texts[name], re.M):
            found |= {
                module,
                *(f"{module}.{part.split()[0]}" for part in re.sub(r"[()]|#.*", "", names).split(",") if part.split()),
            }
        found |= set(re.findall(r"^ *import (\S+)", self.texts[name], re.M))
        files = {f"{module.replace('.', '/')}{end}" for module in found for end in (".py", "/__init__.py")}
        return files & set(self.texts)

    def closure(self, starts: set[str]) -> set[str]:
        seen, todo = set[str](), set(starts)
        while todo:
            name = todo.pop()
            seen.add(name)
            if "\n__fingerprint__ = False" not in self.texts[name]:
                todo |= self.imported(name) - seen
        return seen

    def dependents(self, file: str) -> Cells:
        """(method, network) whose cells need the file."""
        scoring = {"benchmarks/bitstream/container.py", "benchmarks/evaluation/worker.py"}
        found = set()
        for method in methods.names():
            place = methods.source(method).relative_to(ROOT).as_posix()
            own = {name for name in self.texts if name == place or name.startswith(f"{place}/")}
            for network, task in NETWORKS.items():
                architecture = network if task == "digits" else "cifar_resnet"
                looked_up = {f"benchmarks/tasks/{task}.py", f"benchmarks/networks/{architecture}.py"}
                if file in self.closure(own | scoring | looked_up):
                    found.add((method, network))
        return found


def on(networks: list[str], *chosen: str) -> Cells:
    return {(method, network) for method in chosen for network in networks}


# What gives the same results


def test_a_comment_and_other_formatting_everywhere_change_nothing(copy: Copy, before: Fingerprints) -> None:
    assert copy.edit_everywhere(r"\Z", "\n\n# the end\n") > 100
    assert copy.edit_everywhere(r'\A"""', '"""Once more: ') > 100
    assert copy.stale(before) == set()


def test_a_field_of_the_card_changes_nothing(copy: Copy, before: Fingerprints) -> None:
    copy.edit("methods/interface.py", '    estimate: str = ""\n', '    estimate: str = ""\n    colour: str = ""\n')
    copy.edit("methods/baselines/uniform.py", '    venue="",\n', '    venue="",\n    colour="blue",\n')
    assert copy.stale(before) == set()


@pytest.mark.parametrize("name", ["weights", "lamp", "dense", "layers"])
def test_a_network_of_any_name_changes_nothing(name: str, copy: Copy, before: Fingerprints) -> None:
    """These words are strings in the code of methods, for something else."""
    assert any(f'"{name}"' in (copy.root / file).read_text("utf-8") for file in copy.files())
    copy.write(f"benchmarks/networks/{name}.py", f"def {name}():\n    raise ValueError\n")
    assert copy.stale(before) == set()


def test_a_file_that_is_moved_with_its_imports_changes_nothing(copy: Copy, before: Fingerprints) -> None:
    """`measure.py` to a subfolder."""
    copy.write("benchmarks/evaluation/network/__init__.py", '"""What is measured of a network."""\n')
    (copy.root / "benchmarks/evaluation/measure.py").rename(copy.root / "benchmarks/evaluation/network/measure.py")

    def split(found: re.Match[str]) -> str:
        others = [name for name in found[1].split(", ") if name != "measure"]
        lines = [f"from benchmarks.evaluation import {', '.join(others)}"] if others else []
        return "\n".join([*lines, "from benchmarks.evaluation.network import measure"])

    assert copy.edit_everywhere(r"(?m)^from benchmarks\.evaluation import ((?:\w+, )*measure(?:, \w+)*)$", split) > 1
    assert copy.edit_everywhere(r"benchmarks\.evaluation\.measure\b", "benchmarks.evaluation.network.measure") > 0
    assert copy.stale(before) == set()
    copy.edit("benchmarks/evaluation/network/measure.py", "else 8 *", "else 9 *")
    assert copy.stale(before) == set(before)  # it still counts


def test_a_file_that_is_renamed_with_its_imports_changes_nothing(copy: Copy, before: Fingerprints) -> None:
    (copy.root / "benchmarks/training/batchnorm.py").rename(copy.root / "benchmarks/training/statistics.py")
    assert copy.edit_everywhere(r"benchmarks\.training\.batchnorm\b", "benchmarks.training.statistics") >= 3
    assert copy.stale(before) == set()


@pytest.mark.parametrize(
    "name",
    [
        "benchmarks/running/execute.py",
        "benchmarks/running/cell.py",
        "benchmarks/records/schema.py",
        "benchmarks/data/download.py",
        "benchmarks/evaluation/scorer.py",
        "benchmarks/tasks/imagenet.py",
        "benchmarks/networks/vgg.py",
        "benchmarks/cli/cells.py",
        "benchmarks/storage.py",
        "benchmarks/fingerprint.py",
        "methods/__init__.py",
        "methods/families/limits.py",
    ],
)
def test_what_makes_no_number_changes_nothing(name: str, copy: Copy, before: Fingerprints) -> None:
    copy.write(name, (copy.root / name).read_text("utf-8") + "\nNEW = 1\n")
    assert copy.stale(before) == set()


# What matters


@pytest.mark.parametrize(
    ("name", "old", "new", "stale_too", "fresh"),
    [
        (
            "benchmarks/bitstream/codecs/sparse.py",
            "[(a != 0).astype(np.int64) for a in arrays]",
            "[(a != 1).astype(np.int64) for a in arrays]",
            on(list(NETWORKS), "magnitude"),
            on(list(NETWORKS), "uniform", "reference", "aq", "tucker"),
        ),
        (
            "benchmarks/bitstream/codecs/raw.py",
            '"float32": "<f4"',
            '"float32": ">f4"',
            on(list(NETWORKS), "uniform", "reference", "aq", "magnitude"),
            set(),
        ),
        (
            "benchmarks/bitstream/codecs/index.py",
            "0 <= limit <= 2**31",
            "0 <= limit <= 2**30",
            on(list(NETWORKS), "l1_filter", "jsvd"),
            on(list(NETWORKS), "reference", "magnitude", "surp", "uniform", "nnc"),
        ),
        (
            "benchmarks/tasks/kinds/classification.py",
            "nn.functional.cross_entropy(outputs, targets)",
            "nn.functional.cross_entropy(outputs, targets, label_smoothing=0.1)",
            on(list(NETWORKS), *methods.names()),
            set(),
        ),
        (
            "benchmarks/networks/digits_cnn.py",
            "nn.AdaptiveAvgPool2d(1)",
            "nn.AdaptiveMaxPool2d(1)",
            on(["digits_cnn"], *methods.names()),
            on(["digits_resnet", "resnet20"], *methods.names()),
        ),
        (
            "benchmarks/tasks/cifar10.py",
            "VALIDATION = 5_000",
            "VALIDATION = 5_001",
            on(["resnet20"], *methods.names()),
            on(DIGITS, *methods.names()),
        ),
        (
            "benchmarks/evaluation/metrics.py",
            "Z95 = 1.959963984540054",
            "Z95 = 1.96",
            on(list(NETWORKS), *methods.names()),
            set(),
        ),
        (
            "methods/baselines/uniform.py",
            "clamp_min(1e-4)",
            "clamp_min(1e-5)",
            on(list(NETWORKS), "uniform"),
            on(list(NETWORKS), *[key for key in methods.names() if key != "uniform"]),
        ),
    ],
    ids=["sparse codec", "raw codec", "index codec", "loss", "network", "task", "interval", "method"],
)
def test_a_change_that_matters_makes_exactly_its_dependents_stale(
    name: str,
    old: str,
    new: str,
    stale_too: Cells,
    fresh: Cells,
    copy: Copy,
    before: Fingerprints,
) -> None:
    expected = Grep(copy).dependents(name)
    copy.edit(name, old, new)
    found = copy.stale(before)
    assert found == expected and stale_too <= found and not fresh & found


def test_a_default_of_a_recipe_makes_what_trains_stale(copy: Copy, before: Fingerprints) -> None:
    """Of digits all: its reference is trained here. Those of CIFAR-10 are public, and `reference` only stores one."""
    recipe = copy.defines(r"^class Recipe\b", "benchmarks/training")
    expected = Grep(copy).dependents(recipe)
    copy.edit(recipe, "    batch: int = 128\n", "    batch: int = 256\n")
    found = copy.stale(before)
    assert on(DIGITS, *methods.names()) | on(["resnet20"], "magnitude", "sfp", "aq", "jsvd") <= found
    assert ("reference", "resnet20") not in found and found <= expected


def test_a_name_that_comes_from_elsewhere_makes_its_users_stale(copy: Copy, before: Fingerprints) -> None:
    """The method itself says the same as before."""
    copy.write(
        "benchmarks/bitstream/codecs/coarse.py",
        (copy.root / "benchmarks/bitstream/codecs/raw.py").read_text("utf-8") + "\nNEW = 1\n",
    )
    copy.edit(
        "methods/baselines/uniform.py",
        "from benchmarks.bitstream.codecs import constant, raw, uniform\n",
        "from benchmarks.bitstream.codecs import coarse as raw\nfrom benchmarks.bitstream.codecs import constant, uniform\n",
    )
    assert copy.stale(before) == on(list(NETWORKS), "uniform")


def test_which_code_a_cell_depends_on(laboratory: Laboratory, copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method from outside of the project, that writes raw tensors and can train."""
    known = laboratory.cells()[0]
    before = known.fingerprint()

    def with_change(name: str) -> str:
        text = (copy.root / name).read_text("utf-8")
        copy.write(name, f"{text}\nNEW = 1\n")
        code = Code(copy.root)
        monkeypatch.setattr(fingerprint, "here", lambda: code)
        monkeypatch.setattr(cell, "here", lambda: code)
        found = known.fingerprint()
        copy.write(name, text)
        return found

    for name in ("bitstream/codecs/sparse", "tasks/cifar10", "networks/cifar_resnet", "running/schedule", "cli/cells"):
        assert with_change(f"benchmarks/{name}.py") == before, name
    counted = ["bitstream/codecs/raw", "bitstream/container", "evaluation/worker", "evaluation/scoring"]
    counted += ["evaluation/shards", "tasks/digits", "networks/digits_cnn", "evaluation/measure", "training/loop"]
    for name in counted:
        assert with_change(f"benchmarks/{name}.py") != before, name


def test_another_kind_of_module_changes_nothing(copy: Copy, before: Fingerprints) -> None:
    """One more line in the module that structured pruning alone uses."""
    expected = Grep(copy).dependents(f"{MODULES}/gather.py")
    copy.write(f"{MODULES}/gather.py", (copy.root / MODULES / "gather.py").read_text("utf-8") + "\nNEW = 1\n")
    found = copy.stale(before)
    assert found == expected and on(list(NETWORKS), "psap", "l1_filter") <= found
    assert not found & on(list(NETWORKS), "uniform", "reference", "magnitude", "aq", "surp", "jsvd")
