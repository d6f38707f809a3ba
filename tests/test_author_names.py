"""The authors of a paper have the same names in a method's README and on its card."""

from __future__ import annotations

import re

import pytest

import methods


def initials(name: str) -> str:
    """ "Hans Peter Graf" -> "H. P. Graf", "Luc Van Gool" -> "L. Van Gool"."""
    *given, family = name.replace(" Van ", " Van_").split()
    return " ".join([*(f"{part[0]}." for part in given), family.replace("_", " ")])


CITED = {
    key: found[1]
    for key in methods.names()
    if (source := methods.source(key)).is_dir()
    and (source / "README.md").is_file()
    and (found := re.search(r"^# [^\n]+\n\n([^:*\n]+):\s\*", (source / "README.md").read_text("utf-8")))
}


def test_the_readmes_of_all_papers_cite_their_authors() -> None:
    assert CITED.keys() == {key for key in methods.names() if methods.get(key).CARD.fidelity != "baseline"}


@pytest.mark.parametrize("key", CITED)
def test_the_readme_names_the_authors_of_the_card(key: str) -> None:
    assert CITED[key].split(", ") == [initials(name) for name in methods.get(key).CARD.authors]
