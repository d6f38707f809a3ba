"""params.yaml: what is wrong in it is one sentence, whichever suite is asked for, and no cell is lost or planned twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_runner
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_runner import BUDGETS, Laboratory

from benchmarks.errors import RateBenchError
from benchmarks.fingerprint import ROOT
from benchmarks.running import params, plan, strict_yaml

laboratory = test_runner.laboratory
SUITE = {"task": "digits", "networks": ["digits_cnn"], "methods": ["tiny", "reference"], "seeds": [0]}
LINES = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
HEAD = "digits: {task: digits, networks: [digits_cnn], methods: [tiny], seeds: [0]}\n"
REST = "budgets: {post-training: {epochs: 0}, short: {epochs: 2.5}}\nconfigs: {}\n"
LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{before}'] * 8)}]\n" for before, one in zip("abcdefg", "bcdefgh", strict=True)
)


def other(**changes: Any) -> dict[str, Any]:
    """A suite that no command of these tests asks for."""
    return {"other": {**SUITE, **changes}}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"budgts": BUDGETS, "budgets": None}, "budgets: Expected `object`"),
        (other(methods=["tiny", "uniforn"]), "suite 'other': unknown method 'uniforn': did you mean 'uniform"),
        (other(task="digit"), "suite 'other': unknown task 'digit': did you mean 'digits'"),
        (other(budgets=["shrt"]), "suite 'other': unknown budget 'shrt': did you mean 'short'"),
        (other(network=["digits_cnn"]), "suite 'other': unknown field 'network': did you mean 'networks'"),
        (other(configs={"shrt": {}}), "suite 'other', configs: unknown budget 'shrt'"),
        (other(configs={"short": {"tinny": [{}]}}), "configs, short: unknown method 'tinny': did you mean 'tiny'"),
        (other(configs={"short": {"tiny": [{"pionts": 1}]}}), "unknown field of tiny's Config 'pionts'"),
        (other(configs={"short": {"uniform": [{"stepss": [1]}]}}), "unknown field of uniform's Config 'stepss'"),
        (other(configs={"short": {"tiny": []}}), "configs, short, tiny: it is empty"),
        (other(configs={"short": {"tiny": [{}, {"points": 3}]}}), "tiny: entry 2, .* is the same configuration as"),
        (
            other(configs={"short": {"tiny": [{"names": "a"}]}}),
            "unknown field of tiny's Config 'names': did you mean 'name'",
        ),
        (other(configs={"short": {"tiny": [{"name": 3}]}}), "tiny: entry 1, {}, has the name 3: write 1 to 40"),
        (other(configs={"short": {"tiny": [{"name": " a"}]}}), "has the name ' a': write 1 to 40 printable letters"),
        (
            other(configs={"short": {"tiny": [{"name": "a" * 41}]}}),
            "has the name 'a+': write 1 to 40 printable letters",
        ),
        (
            other(configs={"short": {"tiny": [{"name": "a"}, {"name": "a", "points": 2}]}}),
            "entry 2, .* of an earlier one",
        ),
        (other(configs={"short": {"tiny": [{"name": "a"}, {"name": "b"}]}}), "tiny: entry 2, {}, is the same config"),
        (other(configs={"short": {"tiny": None}}), "configs, short, tiny: Expected `array`, got `null`"),
        (other(methods=[]), "suite 'other', methods: it is empty"),
        (other(networks=[]), "suite 'other', networks: it is empty"),
        (other(seeds=[]), "suite 'other', seeds: it is empty"),
        (other(budgets=[]), "suite 'other', budgets: it is empty"),
        (other(methods=["tiny", "tiny"]), "suite 'other', methods: 'tiny' is there twice"),
        (other(networks=["digits_cnn"] * 2), "suite 'other', networks: 'digits_cnn' is there twice"),
        (other(seeds=[0, 1, 0]), "suite 'other', seeds: 0 is there twice"),
        (other(budgets=["short", "short"]), "suite 'other', budgets: 'short' is there twice"),
        (other(seeds=[-1]), "suite 'other': Expected `int` >= 0"),
        (other(seeds=0), "suite 'other': Expected `array`"),
        (other(seeds=[True]), "suite 'other': Expected `int`"),
        (other(methods="tiny"), "suite 'other': Expected `array`"),
        (other(caution=3), "suite 'other': Expected `str`"),
        ({"other": ["digits"]}, "suite 'other': Expected `object`"),
        ({"../other": SUITE}, r"suite '\.\./other': the name must consist of"),
        ({"digits": {**SUITE, "networks": ["digits_cn"]}}, "'digits': unknown network of task 'digits' 'digits_cn'"),
        ({"budgets": {}}, "budgets: it is empty"),
        ({"budgets": BUDGETS | {"shrt": {"epochs": 1}}}, "budgets: unknown budget 'shrt': did you mean 'short'"),
        ({"budgets": BUDGETS | {"short": {"epochs": -1}}}, "budgets, short: Expected `float` >= 0"),
        ({"budgets": BUDGETS | {"short": {"epochs": float("nan")}}}, "'.nan' is not a finite number"),
        ({"budgets": BUDGETS | {"short": {"epochs": float("inf")}}}, "'.inf' is not a finite number"),
        ({"budgets": BUDGETS | {"post-training": {"epochs": 1}}}, "budgets, post-training: it has no training"),
        ({"configs": {"short": {"tinny": [{}]}}}, "configs, short: unknown method 'tinny'"),
        ({"configs": {"short": {"tiny": []}}}, "configs, short, tiny: it is empty"),
        ({"configs": {"short": {"tiny": [{}, {}]}}}, "tiny: entry 2, {}, is the same configuration"),
        ({"configs": []}, "configs: Expected `object`"),
    ],
)
def test_what_is_wrong_anywhere_is_one_sentence(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], sentence: str
) -> None:
    """Wrong code that this finds: checks of the suite asked for alone, and `own.get(key) or …` for a list that is empty."""
    laboratory.configure(**changes)
    assert laboratory.ratebench("plan", "digits") == 1
    complaint = capsys.readouterr().err
    assert re.match(f"error: params.yaml.*{sentence}", complaint) and complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (HEAD + HEAD + REST, r"has the key 'digits' twice in one mapping \(lines 1 and 2\)"),
        (HEAD + REST + "configs: {}\n", r"has the key 'configs' twice in one mapping \(lines 3 and 4\)"),
        (HEAD + REST.replace("{}", "{short: {tiny: [{}], tiny: [{points: 1}]}}"), r"key 'tiny' twice .*\(line 3\)"),
        (HEAD + REST.replace("{}", "{short: {tiny: [{points: 1, points: 2}]}}"), "key 'points' twice"),
        (HEAD + REST.replace("{}", "{short: {tiny: [{<<: {points: 1, points: 2}}]}}"), "key 'points' twice"),
        (HEAD + REST.replace("{}", "{short: {<<: {}, <<: {}}}"), "key '<<' twice .* write `<<: "),
        (HEAD + REST.replace("{}", "{short: {<<: 3}}"), "line 3.*expected a mapping or list of mappings for merging"),
        (HEAD + REST.replace("{}", "&all {short: *all}"), "line 3, is not valid: an alias contains itself"),
        (HEAD + REST.replace("{}", "{short: *nothing}"), "line 3.*undefined alias 'nothing'"),
        (HEAD + REST.replace("{}", "{yes: {}}"), "line 3.*a key must be text, not 'yes'"),
        (HEAD + REST.replace("{}", "{[short]: {}}"), "line 3.*a key must be text"),
        (HEAD + REST.replace("{}", "{short: {tiny: [{points: 2024-01-01}]}}"), "line 3.*kind 'timestamp'"),
        (HEAD + REST.replace("{}", "{short: {tiny: [{points: !!int two}]}}"), "not what its tag"),
        (HEAD + REST.replace("2.5", "1e-9"), "line 2.*'1e-9' is ambiguous: write it with a decimal point"),
        (HEAD + REST.replace("2.5", "1e3"), "line 2.*'1e3' is ambiguous"),
        (HEAD.replace("[0]", "[010]") + REST, "line 1.*'010' is ambiguous: YAML reads it as 8"),
        (HEAD.replace("[0]", "[1:30]") + REST, "line 1.*'1:30' is ambiguous: YAML reads it as 90"),
        (HEAD.replace("[0]", "[1_0]") + REST, "line 1.*'1_0' is ambiguous: YAML reads it as 10"),
        (HEAD.replace("[0]", "[0x1f]") + REST, "line 1.*'0x1f' is ambiguous: YAML reads it as 31"),
        (HEAD + REST.replace("{}", "{short: !!python/tuple []}"), "line 3.*of the kind 'python/tuple'"),
        (HEAD + "budgets:\n\tshort: {epochs: 1}\n", "line 3.*indent with spaces"),
        (HEAD + REST + "---\na: 1\n", "expected a single document"),
        (HEAD + "budgets: [\n", "line .*expected the node content"),
        (HEAD + REST + LAUGHS, "its aliases stand for more than 100,000 values"),
        ("[" * 5000, "nested too deeply"),
        (HEAD.encode("latin-1") + "# é\n".encode("latin-1"), "line 2, is not UTF-8 text: save it as UTF-8"),
        ((HEAD + REST).encode("utf-16"), "line 1, is not UTF-8 text"),
        ((HEAD + REST).encode("utf-16-le"), "is not UTF-8 text"),
        ("digits: \x07", "save it as UTF-8 text"),
        ('digits: "\\ud800"', "not what its tag"),
        ("# nothing\n", "is empty or no mapping"),
        ("- digits\n", "is empty or no mapping"),
        (REST, "has no suite"),
        (HEAD + REST.replace("configs", "config"), "unknown entry 'config': did you mean 'configs'"),
        (HEAD + "configs: {}\n", "has no entry 'budgets'"),
    ],
)
def test_what_no_program_should_guess_is_one_sentence(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], text: str | bytes, sentence: str
) -> None:
    """Wrong code that this finds: `yaml.safe_load`, which keeps the last of two keys, and UnicodeDecodeError."""
    (laboratory.folder / "params.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert laboratory.ratebench("plan", "digits") == 1
    complaint = capsys.readouterr().err
    assert re.match(f"error: params.yaml.*{sentence}", complaint) and complaint.count("\n") == 1


def test_merging_aliases_and_a_byte_order_mark_are_fine(laboratory: Laboratory) -> None:
    listed = "{short: {tiny: [&one {points: 1}, {<<: *one, points: 2}]}, post-training: {tiny: [*one]}}"
    (laboratory.folder / "params.yaml").write_text(HEAD + REST.replace("{}", listed), encoding="utf-8-sig")
    params._params.cache_clear()
    assert [cell.config["points"] for cell in plan.cells("digits", budget_name="short")] == [1, 2]
    assert [cell.config["points"] for cell in plan.cells("digits")] == [1]


def test_a_file_that_cannot_be_read_is_one_sentence(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    file = laboratory.folder / "params.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_yaml.Path, "read_bytes", refuse)
        assert laboratory.ratebench("plan", "digits") == 1
    assert capsys.readouterr().err == "error: can't read params.yaml: Permission denied\n"
    file.unlink()
    file.mkdir()
    assert laboratory.ratebench("plan", "digits") == 1
    assert capsys.readouterr().err == "error: can't read params.yaml: Is a directory\n"


def refuse(path: Path) -> bytes:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_caution_is_not_lost_with_an_error_elsewhere(laboratory: Laboratory) -> None:
    """Wrong code that this finds: `except RateBenchError: return ""`, which drops the warning."""
    laboratory.configure(digits={**SUITE, "caution": "Easy images."})
    assert (params.caution("digits"), params.caution("absent")) == ("Easy images.", "")
    laboratory.configure(digits={**SUITE, "caution": "Easy images."}, **other(methods=["tinny"]))
    with pytest.raises(RateBenchError, match="unknown method 'tinny'"):
        params.caution("digits")
    (laboratory.folder / "params.yaml").unlink()
    assert params.caution("digits") == ""


def test_options_that_are_given_twice_plan_a_cell_once(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    laboratory.configure(digits=SUITE)
    twice = "-m tiny -m tiny -n digits_cnn -n digits_cnn -s 3 -s 3 -b short"
    assert laboratory.ratebench("plan", "digits", *twice.split()) == 0
    assert capsys.readouterr().out.count("digits/digits_cnn/tiny/44136fa3-short-s3") == 1


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The place of changed copies of the project's own params.yaml."""
    with pytest.MonkeyPatch.context() as patch:
        file = tmp_path_factory.mktemp("params") / "params.yaml"
        patch.setattr(params, "PARAMS", file)
        yield file
    params._params.cache_clear()


def planned(file: Path, text: str) -> dict[str, list[str]] | None:
    """The ids of the cells of two suites at all their budgets; None if the file is refused. No other error is allowed."""
    file.write_text(text, encoding="utf-8")
    params._params.cache_clear()
    try:
        suites = {name: params.suite(name).budgets for name in ("digits", "cifar10")}
        return {
            name: [cell.id for budget in budgets for cell in plan.cells(name, budget_name=budget)]
            for name, budgets in suites.items()
        }
    except RateBenchError as error:
        assert "\n" not in str(error)
        return None


@settings(max_examples=40)
@given(st.integers(0, len(LINES) - 1))
def test_a_line_that_is_there_twice_loses_and_doubles_nothing(real: Path, index: int) -> None:
    """Wrong code that this finds: `yaml.safe_load` and lists of configurations that are not compared."""
    before = planned(real, "".join(LINES))
    assert planned(real, "".join([*LINES[: index + 1], *LINES[index:]])) in (before, None)


SCALAR = re.compile(r"[\w.-]+")


@settings(max_examples=40)
@given(st.data())
def test_a_changed_scalar_or_a_missing_line_gives_a_plan_without_doubles_or_an_error(
    real: Path, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(LINES) - 1))
    found = list(SCALAR.finditer(LINES[index]))
    changed = ""
    if found and data.draw(st.booleans()):
        one = data.draw(st.sampled_from(found))
        value = data.draw(st.sampled_from(["", "null", "-1", ".nan", "x", "[]", "{}", "0", "1e400", "*all", "<<", "é"]))
        changed = LINES[index][: one.start()] + value + LINES[index][one.end() :]
    ids = planned(real, "".join([*LINES[:index], changed, *LINES[index + 1 :]]))
    assert ids is None or all(len(set(cells)) == len(cells) > 0 for cells in ids.values())


def test_the_strict_reader_reads_what_a_yaml_library_reads() -> None:
    assert strict_yaml.read(ROOT / "params.yaml") == yaml.safe_load("".join(LINES))
