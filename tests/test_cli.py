"""The command: every mistake is one sentence and a status that is not 0; decoding stands alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import test_runner
import torch
from safetensors.torch import load_file
from test_runner import Laboratory, wait_until

from benchmarks import bitstream
from benchmarks.bitstream import blueprint
from benchmarks.errors import RateBenchError, UnknownName
from benchmarks.running import plan, schedule

laboratory = test_runner.laboratory


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """Both streams, without the breaks of lines."""
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("plan digts", "error: unknown suite 'digts': did you mean 'digits'?"),
        ("run digits -m tinny", "error: unknown method 'tinny': did you mean 'tiny'"),
        ("run digits -n digits_cn", "error: unknown network of suite 'digits' 'digits_cn': did you mean 'digits_cnn'?"),
        ("run digits -b shrt", "error: unknown budget 'shrt': did you mean 'short'?"),
        ("plan digits -c 44136fa4", "error: unknown configuration '44136fa4': did you mean '44136fa3'?"),
        ("fetch imagnet", "error: unknown task 'imagnet': did you mean 'imagenet"),
        ("fetch cifar10 -n resnet21", "error: unknown network of task 'cifar10' 'resnet21': did you mean 'resnet"),
        ("show digits", "error: there are no records of 'digits' in results: `ratebench run digits` makes them"),
        ("verify digits", "error: no artefact of 'digits' is in results"),
        ("verify digits --method uniforms", "error: unknown method 'uniforms': did you mean 'uniform"),
        ("decode absent.rbn", "error: there is no file absent.rbn"),
        ("decode .", "error: there is no file ."),
    ],
)
def test_a_mistake_is_one_sentence(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], arguments: str, sentence: str
) -> None:
    assert laboratory.ratebench(*arguments.split()) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith(sentence) and complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "lacking"), [("operating_points", "Config.operating_points"), ("unsupported", "unsupported")]
)
def test_a_method_without_a_part_of_the_interface_says_which(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], name: str, lacking: str
) -> None:
    file = laboratory.folder / "packages" / "tiny.py"
    file.write_text(file.read_text().replace(f"def {name}(", "def other("))
    laboratory.forget()
    assert laboratory.ratebench("plan", "digits") == 1
    assert f"error: method 'tiny' (tiny) lacks {lacking}: see methods/interface.py" in shown(capsys)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("run", "Missing argument 'suite'"),
        ("run digits --bogus", "No such option: --bogus"),
        ("run digits --jobs 0", "Invalid value for '--jobs'"),
        ("run digits --seed one", "Invalid value for '--seed'"),
        ("rum digits", "No such command 'rum'"),
        ("", "Usage:"),
    ],
)
def test_wrong_usage_is_explained(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], arguments: str, complaint: str
) -> None:
    assert laboratory.ratebench(*arguments.split()) == 2
    text = shown(capsys)
    assert complaint.lower() in text.lower() and "Usage:" in text and "Traceback" not in text


def test_help_and_lists_are_no_errors(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    assert laboratory.ratebench("--help") == 0
    listed = shown(capsys)
    assert all(
        f" {verb} " in listed for verb in ("plan", "run", "show", "verify", "decode", "fetch", "report", "methods")
    )
    assert laboratory.ratebench("methods") == 0
    listed = shown(capsys)
    assert "A tiny method" in listed and "reconstruction" in listed and "magnitude" in listed
    assert laboratory.ratebench("fetch", "digits") == 0
    assert "digits is embedded: nothing to fetch" in shown(capsys)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"configs": {"post-training": {"tiny": [{"pionts": 2}]}}}, "unknown field .* 'pionts': did you mean 'points'"),
        (
            {"configs": {"post-training": {"tiny": [{"points": "two"}]}}},
            "configuration .*'two'.* of 'tiny': Expected `int`",
        ),
        (
            {"configs": {"post-training": {"tiny": {"points": 2}}}},
            "params.yaml, configs, post-training, tiny: Expected `array`",
        ),
        (
            {"configs": {"post-training": {"tiny": ["points"]}}},
            "params.yaml, configs, post-training, tiny: Expected `object`",
        ),
        ({"configs": None}, "params.yaml, configs: Expected `object`"),
        ({"budgets": {"short": 2}}, "params.yaml, budgets, short: Expected `object`"),
        (
            {"budgets": {"short": {"epoch": 2}}},
            "params.yaml, budgets, short: unknown field 'epoch': did you mean 'epochs'",
        ),
        ({"digits": {"task": "digits"}}, "params.yaml, suite 'digits': Object missing required field"),
        ({"digits": None}, "params.yaml, suite 'digits': Expected `object`"),
    ],
)
def test_a_mistake_in_the_parameters_is_one_sentence(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], sentence: str
) -> None:
    laboratory.configure(**changes)
    assert laboratory.ratebench("plan", "digits") == 1
    assert re.match(f"error: .*{sentence}", capsys.readouterr().err)


@pytest.mark.parametrize("text", ["", "[]", "digits: [", "digits"])
def test_parameters_that_are_none_are_one_sentence(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (laboratory.folder / "params.yaml").write_text(text)
    assert laboratory.ratebench("plan", "digits") == 1
    assert capsys.readouterr().err.startswith("error: params.yaml")


def test_outside_of_a_checkout_the_sentence_says_where_to_go(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    (laboratory.folder / "params.yaml").unlink()
    assert laboratory.ratebench("run", "digits") == 1
    assert "run in the root of the RateBench checkout" in shown(capsys)


def test_the_installed_command_speaks_for_itself(tmp_path: Path) -> None:
    """The one test through a real process: no traceback may come from outside of `main` either."""
    command = [sys.executable, "-m", "benchmarks.cli", "show", "nothing", "--results", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=test_runner.fingerprint.ROOT)
    assert ended.returncode == 1 and not ended.stdout
    assert (
        ended.stderr == f"error: there are no records of 'nothing' in {tmp_path}: `ratebench run nothing` makes them\n"
    )


def test_plan_tells_what_is_to_run_from_what_is_recorded(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    laboratory.configure({}, {"points": 1})
    laboratory.patch.setenv("COLUMNS", "200")
    assert laboratory.ratebench("run", "digits", "-c", laboratory.cells()[1].config_hash) == 0
    capsys.readouterr()
    assert laboratory.ratebench("plan", "digits", "--all-configs") == 0
    text = shown(capsys)
    assert "to run" in text and "complete, 1 point," in text
    assert laboratory.ratebench("plan", "digits") == 0
    text = shown(capsys)  # the first configuration alone, which has not been run
    assert "to run" in text and "complete" not in text
    assert laboratory.ratebench("plan", "digits", "-b", "paper") == 0
    assert "not run: has no paper recipe, only post-training, short" in shown(capsys)
    assert laboratory.ratebench("run", "digits", "-b", "paper") == 0
    assert "1 cell: 0 to run, 1 already recorded or not supported" in shown(capsys)


def test_show_prints_every_record(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    laboratory.run()
    assert laboratory.ratebench("show", "digits") == 0
    text = capsys.readouterr().out
    assert all(f"n {index}" in text for index in range(3)) and "58," in text
    (laboratory.results / laboratory.cells()[0].id / "p01.json").write_text("{")
    assert laboratory.ratebench("show", "digits") == 1
    assert "p01.json is not a valid record" in shown(capsys)


def test_decode_exports_the_tensors_of_a_file(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    laboratory.run()
    artefact = sorted(laboratory.results.rglob("*.rbn"))[2]
    place = laboratory.folder / "a ["
    place.mkdir()
    odd = artefact.rename(place / "b].rbn")
    (laboratory.folder / "params.yaml").unlink()  # a file is decoded anywhere
    assert laboratory.ratebench("decode", str(odd)) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{odd}: {odd.stat().st_size:,} bytes (weights ") and "(0): Conv2d(1, 16" in text
    assert laboratory.ratebench("decode", str(odd), "--to", str(place / "model.safetensors")) == 0
    assert f"wrote {place / 'model.safetensors'}" in capsys.readouterr().out
    network = bitstream.decode(odd.read_bytes())
    tensors = load_file(place / "model.safetensors")
    assert set(tensors) == set(network.state_dict()) >= set(blueprint.state(network))
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in network.state_dict().items())
    assert laboratory.ratebench("decode", str(odd), "--to", str(place)) == 1
    assert "error: can't write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda data: data[:-100], "damaged or truncated"),
        (lambda data: data[:5], "truncated"),
        (lambda data: data[:700] + bytes([data[700] ^ 8]) + data[701:], "damaged or truncated"),
        (lambda data: b"PK\3\4" + data[4:], "not a RateBench file"),
        (lambda data: b"", "not a RateBench file"),
    ],
)
def test_decode_of_a_damaged_or_foreign_file_is_one_sentence(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str], harm: Any, sentence: str
) -> None:
    laboratory.configure({"points": 1})
    laboratory.run()
    bad = next(laboratory.results.rglob("*.rbn"))
    bad.write_bytes(harm(bad.read_bytes()))
    assert laboratory.ratebench("decode", str(bad), "--to", "model.safetensors") == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: ") and sentence in complaint and complaint.count("\n") == 1
    assert not Path("model.safetensors").exists()


def test_seeds_belong_to_what_is_random(laboratory: Laboratory) -> None:
    suite = {"task": "digits", "networks": ["digits_cnn"], "methods": ["tiny"], "seeds": [3, 4]}
    laboratory.configure(digits=suite)
    assert [cell.seed for cell in plan.cells("digits")] == [3]  # without training, the tiny method has no randomness
    assert [cell.seed for cell in plan.cells("digits", budget_name="short")] == [3, 4]
    assert [cell.seed for cell in plan.cells("digits", budget_name="short", seeds=[7])] == [7]
    ids = [cell.id for cell in plan.cells("digits", budget_name="short")]
    assert ids == [f"digits/digits_cnn/tiny/44136fa3-short-s{seed}" for seed in (3, 4)]
    assert plan.cells("digits")[0].command.endswith("--config 44136fa3 --budget post-training --seed 3")


def test_a_suite_may_have_configurations_of_its_own(laboratory: Laboratory) -> None:
    suite = {
        "task": "digits",
        "networks": ["digits_cnn"],
        "methods": ["tiny", "reference"],
        "seeds": [0],
    }
    laboratory.configure({"points": 2}, digits=suite | {"configs": {"post-training": {"tiny": [{"points": 5}]}}})
    assert [cell.config["points"] for cell in plan.cells("digits", ["tiny"])] == [5]
    laboratory.configure({"points": 2}, digits=suite | {"configs": {"short": {"tiny": [{"points": 5}]}}})
    assert [cell.config["points"] for cell in plan.cells("digits", ["tiny"])] == [2]
    laboratory.configure({"points": 2}, digits=suite | {"configs": {"post-training": {"tiny": [{"pionts": 5}]}}})
    with pytest.raises(UnknownName, match=r"unknown field of tiny's Config .* did you mean 'points'"):
        plan.cells("digits", ["tiny"])


def test_an_interruption_ends_all_jobs_at_once(laboratory: Laboratory) -> None:
    with laboratory.start("run", "digits", "-j", "2", trouble="hang") as process:
        wait_until(lambda: any(laboratory.folder.glob("hangs-*")), process)
        os.killpg(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=120)
    assert process.returncode == 130
    assert complaint == "interrupted: finished records are kept; run the same command again to continue\n"


def test_jobs_end_with_the_command_that_was_killed(laboratory: Laboratory) -> None:
    with laboratory.start("run", "digits", "-j", "2", trouble="hang") as process:
        wait_until(lambda: any(laboratory.folder.glob("hangs-*")), process)
        process.kill()
        process.communicate(timeout=120)  # the pipes end with the last process that holds them
    assert process.returncode == -signal.SIGKILL


def test_a_worker_that_is_killed_is_one_sentence(laboratory: Laboratory) -> None:
    laboratory.patch.setenv("TINY", "die")
    with pytest.raises(RateBenchError, match=r"a worker process was killed .* fewer --jobs"):
        list(schedule.run(laboratory.cells(), laboratory.results, print, jobs=2))
