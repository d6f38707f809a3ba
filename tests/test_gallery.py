"""Pages of coded pictures: bits per pixel, reported curves, small pictures, and `ratebench draw`, which makes these."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_runner
from browsing import Open, serious
from invented import PSNR, averaged, invent_task, made, reference, store
from msgspec.structs import replace
from PIL import Image
from scipy.interpolate import PchipInterpolator
from test_every_method import POST_TRAINING, MemoryRun
from test_runner import Laboratory

import methods
from benchmarks import bitstream, records, tasks
from benchmarks.papers import answers
from benchmarks.papers.reported import Reported, Size
from benchmarks.records import Record, pictures
from benchmarks.records.pictures import Pictures
from benchmarks.report import render
from benchmarks.running import params

pytest_plugins = ["chromium"]
laboratory = test_runner.laboratory
NETWORKS, MEAN = ["one", "two"], "mean of 2 photographs"
WHOLE = 30_000  # bytes of 10,000 pixels
CURVE = [(1250, 34.0), (500, 31.0), (100, 25.0)]  # bytes and PSNR of the first photograph
PRINTED = [(20.0, 33.5), (50.0, 30.0), (200.0, 26.0)]  # ratios, and PSNR of the mean


def point(method: str, network: str, index: int, size: int, score: float, task: str = "photographs") -> Record:
    rate = records.Rate(
        file_bytes=size, by_role={"weights": size}, uncompressed_bytes=WHOLE, ratio=WHOLE / size, bits_per_weight=None
    )
    artefact = f"{network}-{method}-{index}".encode().hex().ljust(64, "0")
    scores = {"psnr": averaged(PSNR, [score])}
    known = made(method, index=index, network=network, task=task, file_bytes=size, rate=rate, metrics=scores)
    return replace(known, provenance=replace(known.provenance, artefact_sha256=artefact))


def curves(method: str, better: float = 0.0) -> list[Record]:
    """On both photographs, the second of which loses 2 dB."""
    return [
        point(method, network, i, size, score + better - loss)
        for network, loss in zip(NETWORKS, (0.0, 2.0), strict=True)
        for i, (size, score) in enumerate(CURVE)
    ]


def flat(red: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), (red, 0, 0)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


@pytest.fixture
def page_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two methods on two photographs, two reported curves, and pictures of one of the methods."""
    invent_task(monkeypatch, "photographs", PSNR)
    monkeypatch.setattr(params, "averaged", lambda suite: (NETWORKS, MEAN))

    def printed(curve: str, mean_of: int, **changes: Any) -> list[Reported]:
        known = {"task": "photographs", "network": "*", "metric": "psnr", "source": "Figure 1", "context": True}
        sizes = [Size(value=ratio, unit="ratio", counts="file") for ratio, _ in PRINTED]
        rows = zip(sizes, PRINTED, strict=True)
        return [
            Reported(**{**known, **changes}, value=score, size=size, curve=curve, mean_of=mean_of)
            for size, (_, score) in rows
        ]  # type: ignore[arg-type]

    of_others = [
        *printed("BPG", 2),
        *printed("of 24", 24),
        *printed("of some", 2, network="one"),
        *printed("elsewhere", 2, task="others"),
    ]
    monkeypatch.setattr(answers, "reported_by", lambda key: of_others if key == "inr" else [])
    known = [*curves("alpha"), *curves("beta", 0.5)]
    drawn = {r.provenance.artefact_sha256: flat(200) for r in known if r.method == "beta" and r.index == 1}
    originals = {network: flat(100) for network in NETWORKS}
    results = store(tmp_path / "results", known)
    pictures.write(results, Pictures(suite="invented", ratio=60.0, width=24, originals=originals, artefacts=drawn))
    return render("invented", results, tmp_path / "reports")


def test_a_page_of_pictures_counts_bits_per_pixel(opened: Open, page_of_pictures: Path) -> None:
    page = opened(page_of_pictures)
    assert "bits /pixel" in page.inner_text("#rows thead").replace("\n", " ").replace("  ", " ")
    found = page.evaluate("page.curves[0].rows.map(row => [value(row, 'bits'), text(row, 'bits')])")
    assert found == [[pytest.approx(8 * size / 10_000), f"{8 * size / 10_000:.3f}"] for size, _ in CURVE]
    page.evaluate("change({ x: 'bits' })")
    assert page.evaluate("element('plot').layout.xaxis.title.text") == "bits per pixel (fewer is better)"
    assert page.evaluate("reportedHere().length") == 0
    heads = page.locator(".answers thead th").all_inner_texts()
    assert heads[2:] == ["best psnr at 48× (0.5 bits per pixel)", "best psnr at 192× (0.125 bits per pixel)"]
    assert page.inner_text("h1") == "invented: rate and quality of coded pictures"


def test_reported_curves_are_baselines_of_bd_rates(opened: Open, page_of_pictures: Path) -> None:
    """Those of means over as many photographs, on the page of this mean only; as SciPy integrates them."""
    page = opened(page_of_pictures)
    assert page.evaluate("page.printed.map(curve => [curve.name, curve.network])") == [["BPG, reported with inr", MEAN]]
    page.select_option("#baseline", "reported.BPG, reported with inr")
    (words,) = page.locator("#bd tbody tr", has_text="alpha").locator("td.number").all_inner_texts()[:1]
    ours = PchipInterpolator([score - 1 for _, score in CURVE][::-1], np.log([size for size, _ in CURVE][::-1]))
    theirs = PchipInterpolator([s for _, s in PRINTED][::-1], np.log([WHOLE / r for r, _ in PRINTED][::-1]))
    low, high = 26.0, 33.0  # where both are: from the reported curve's end to our mean's best point
    mean = (ours.integrate(low, high) - theirs.integrate(low, high)) / (high - low)
    assert words == f"{100 * (np.exp(mean) - 1):+.1f}".replace("-", "−")
    again = opened(page_of_pictures, page.evaluate("location.hash"))
    assert again.input_value("#baseline") == "reported.BPG, reported with inr"
    for axis, place in (("bytes", WHOLE / 20), ("ratio", 20.0), ("bits", 24 / 20)):
        page.evaluate(f"change({{ x: '{axis}' }})")
        dotted = "element('plot').data.filter(one => one.line?.dash === 'dot').map(one => one.x[0])"
        assert page.evaluate(dotted) == [pytest.approx(place)]
    assert "Dotted: curves that papers report" in page.inner_text("#plot-note")
    page.evaluate("change({ network: 'one' })")
    assert page.locator("#baseline option").all_inner_texts()[-1].startswith("beta")
    assert "Dotted" not in page.inner_text("#plot-note")


def test_the_gallery_has_what_was_drawn(opened: Open, page_of_pictures: Path) -> None:
    page = opened(page_of_pictures)
    assert page.inner_text("#gallery") == "Decoded pictures near 60×"
    assert page.locator(".gallery thead th").all_inner_texts() == ["original", "beta"]
    images = page.locator(".gallery img")
    assert [one.get_attribute("alt") for one in images.all()] == [
        "",
        "one as beta decodes it",
        "",
        "two as beta decodes it",
    ]
    assert page.evaluate("[...document.querySelectorAll('.gallery img')].map(one => one.naturalWidth)") == [24] * 4
    assert page.locator(".gallery td").all_inner_texts() == ["31.50 dB 60×", "29.50 dB 60×"]
    assert serious(page) == "[]"


def with_artefact(known: Record, data: bytes) -> Record:
    digest = hashlib.sha256(data).hexdigest()
    return replace(known, provenance=replace(known.provenance, artefact_sha256=digest))


def test_files_are_drawn_at_one_ratio(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    """Of each method the closest one, decoded from the file itself and reduced; the original beside it."""
    results, task = laboratory.folder / "results", tasks.load("thumbnails", "china")
    jpeg = methods.get("jpeg")
    coded = [*map(bitstream.encode, jpeg.compress(task, jpeg.Config(qualities=(95, 50, 5)), MemoryRun(POST_TRAINING)))]
    known = [point("jpeg", "china", i, WHOLE // ratio, 30.0, "thumbnails") for i, ratio in enumerate((2, 10, 30))]
    known += [
        point("far", "china", 0, WHOLE // 100, 30.0, "thumbnails"),
        point("webp", "china", 0, WHOLE // 9, 30.0, "thumbnails"),
    ]
    known = [with_artefact(one, data) for one, data in zip(known, [*coded, *coded[:2]], strict=True)]
    store(results, known)
    for one, data in zip(known[:3], coded, strict=True):
        (results / f"{one.id}.rbn").write_bytes(data)
    (results / f"{known[4].id}.rbn").write_bytes(b"of another run")
    assert laboratory.ratebench("draw", "invented", "12", "--results", str(results)) == 0
    said = capsys.readouterr()
    assert said.out.startswith("1 file of 1 picture: wrote ") and "not at hand: 1 of 2, first " in said.err
    found = pictures.load(results, "invented")
    assert found is not None and found.ratio == 12 and [*found.artefacts] == [known[1].provenance.artefact_sha256]
    small = [
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float)
        for data in (found.originals["china"], *found.artefacts.values())
    ]
    whole = np.asarray(task.train.targets, float).reshape(64, 96, 3)
    errors = [((one - whole) ** 2).mean() for one in small]
    assert errors[0] < 60 and errors[0] < errors[1] < 400

    assert laboratory.ratebench("draw", "invented", "100", "--results", str(results)) == 1
    assert "not at hand: 1 of 1, first " in capsys.readouterr().err and pictures.load(results, "invented") == found
    assert laboratory.ratebench("draw", "invented", "2000", "--results", str(results)) == 1
    assert "no file of 'invented' has a ratio near 2000" in capsys.readouterr().err
    assert laboratory.ratebench("draw", "nothing", "10", "--results", str(results)) == 1
    assert "there are no records of 'nothing'" in capsys.readouterr().err
    (results / "invented" / "pictures.json").write_text("{}")
    assert laboratory.ratebench("report", "invented", "--results", str(results)) == 1
    assert "pictures.json holds no pictures" in capsys.readouterr().err


def test_a_suite_of_networks_has_no_pictures(laboratory: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    known = made(network="digits_cnn")
    results = store(laboratory.folder / "results", [known, reference("digits_cnn")])
    (results / f"{known.id}.rbn").write_bytes(b"a file")
    assert laboratory.ratebench("draw", "invented", "4", "--results", str(results)) == 1
    assert "the networks of the task digits draw no pictures" in capsys.readouterr().err
    assert not (results / "invented" / "pictures.json").exists()
