"""What the page says about each method: its docstring and its README, as text."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import methods
from benchmarks.report import prose


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a method called "alpha", without files."""
    folder = tmp_path / "alpha"
    folder.mkdir()
    monkeypatch.setattr(
        methods, "source", lambda key: folder if (folder / "__init__.py").exists() else folder / "alpha.py"
    )
    return folder


@pytest.mark.parametrize("key", methods.names())
def test_every_method_says_what_was_done(key: str) -> None:
    """More than a line, from the file itself. Wrong code that this finds: a section that shows READMEs only."""
    source = methods.source(key)
    text = ast.get_docstring(
        ast.parse((source / "__init__.py" if source.is_dir() else source).read_text(encoding="utf-8"))
    )
    assert text and "\n\n" in text
    shown = re.sub(r"<[^>]*>", "", prose.docstring(key))
    assert len(shown.split()) == len(re.sub(r"\s`", " ", text).split()) >= 20


def test_a_readme_follows_without_what_the_page_already_has(written: Path) -> None:
    """Wrong code that this finds: a first paragraph that is always left out, or a title that must stand on one line."""
    (written / "__init__.py").write_text('"""One.\n\nTwo `code` <b>."""\n')
    assert prose.docstring("alpha") == "<p>One.</p>\n<p>Two <code>code</code> &lt;b&gt;.</p>\n"
    (written / "README.md").write_text(
        "# Alpha\n\nA. Author: *A Long\nTitle*, Venue.\nCode: there.\n\nWhat was **done**.\n"
    )
    assert prose.readme("alpha", "A Long Title") == "<p>What was <strong>done</strong>.</p>\n"
    assert prose.readme("alpha", "Another Title").startswith("<p>A. Author: <em>A Long\nTitle</em>")
    assert "A. Author" in prose.readme("alpha", "")
    (written / "README.md").unlink()
    assert prose.readme("alpha", "A Long Title") == ""


def test_a_file_that_is_the_whole_method_has_a_docstring_and_no_readme(written: Path) -> None:
    (written / "alpha.py").write_text('"""One."""\n')
    (written / "README.md").write_text("Of the folder.\n")
    assert (prose.docstring("alpha"), prose.readme("alpha", "")) == ("<p>One.</p>\n", "")


@pytest.mark.parametrize("text", ["", "x = 1\n", "not python at all\n", "\x00"])
def test_a_file_without_a_docstring_says_nothing(written: Path, text: str) -> None:
    (written / "alpha.py").write_text(text)
    assert prose.docstring("alpha") == ""


def test_a_method_that_is_gone_says_nothing() -> None:
    assert (prose.docstring("gone"), prose.readme("gone", "")) == ("", "")


def test_only_safe_links_remain(written: Path) -> None:
    (written / "__init__.py").write_text('"""[one](https://a.example) [two](javascript:x) [three](file.py)."""\n')
    assert re.findall(r'href="[^"]*"', prose.docstring("alpha")) == ['href="https://a.example"']
