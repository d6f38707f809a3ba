"""How a report is cited: BibTeX and CITATION.cff, with the snapshot of its records and the commit that has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from benchmarks.errors import RateBenchError
from benchmarks.fingerprint import ROOT
from benchmarks.report.latex import tex
from benchmarks.running import strict_yaml

SETTINGS = ROOT / "CITATION.cff"  # of the suite; its `url` and `doi`, if it has them, are also those of every report
TITLE = "RateBench: rate and quality of compressed neural networks"
AUTHOR = "RateBench contributors"
_FORMS = {"url": re.compile(r"https?://[^\s{}\\]+"), "doi": re.compile(r"10\.\d{4,9}/[^\s{}\\]+")}


@dataclass(frozen=True)
class Citation:
    """What identifies a report.

    `commit` is the first one that has exactly the records of the snapshot; None before they are committed. `url` and `doi`
    are empty where the project has none.
    """

    suite: str
    snapshot: str
    records: int
    commit: str | None
    version: str
    year: str
    caution: str
    url: str
    doi: str

    @property
    def title(self) -> str:
        return f"{TITLE}, suite {self.suite}"

    @property
    def fields(self) -> str:
        """The lines that every BibTeX entry of the page has, of the page, a view or a row."""
        return _fields(self.version, self.url, self.doi)

    def bibtex(self) -> str:
        """The BibTeX entry of the page."""
        commit = f", commit {self.commit}" if self.commit else ""
        caution = f". {self.caution.removesuffix('.')}" if self.caution else ""
        note = f"Snapshot {self.snapshot}{commit}, {self.records} records{caution}"
        return _entry(f"ratebench-{self.snapshot}", self.title, self.year, self.fields, note)

    def cff(self) -> bytes:
        """The report's own CITATION.cff (format version 1.2.0): the records as a data set, with their snapshot."""
        identifier = {"type": "other", "value": self.snapshot, "description": "The snapshot of the records."}
        known = {
            "cff-version": "1.2.0",
            "message": " ".join(filter(None, ("Please cite these numbers with their snapshot.", self.caution))),
            "title": self.title,
            "type": "dataset",
            "authors": [{"name": AUTHOR}],
            "version": self.version,
            "commit": self.commit,
            "identifiers": [identifier],
            "url": self.url,
            "doi": self.doi,
            "license": "Apache-2.0",
        }
        kept = {name: value for name, value in known.items() if value}
        return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=120).encode()


def overall(snapshots: Mapping[str, str], version: str, year: str) -> str:
    """The BibTeX entry of the whole, with the snapshot of each suite; raises as `addresses` does."""
    note = ", ".join(f"suite {suite}: snapshot {name}" for suite, name in snapshots.items())
    return _entry("ratebench", TITLE, year, _fields(version, **addresses()), note)


def _fields(version: str, url: str, doi: str) -> str:
    known = {"version": tex(version), "url": url, "doi": doi}
    return "".join(f"  {name:6} = {{{value}}},\n" for name, value in known.items() if value)


def _entry(key: str, title: str, year: str, fields: str, note: str) -> str:
    return (
        f"@misc{{{key},\n"
        f"  title  = {{{tex(title)}}},\n"
        f"  author = {{{{{AUTHOR}}}}},\n"
        f"  year   = {{{year}}},\n"
        f"{fields}"
        f"  note   = {{{tex(note)}}}\n}}"
    )


def addresses() -> dict[str, str]:
    """`url` and `doi` of the suite, from its CITATION.cff; empty where it has none.

    Raises RateBenchError for a file that is not valid YAML, and for an address of another form.
    """
    try:
        known = strict_yaml.read(SETTINGS)
    except FileNotFoundError:  # an installation without the checkout
        known = {}
    found = {}
    for name, form in _FORMS.items():
        value = known.get(name, "") if isinstance(known, dict) else ""
        if value and not (isinstance(value, str) and form.fullmatch(value)):
            example = {"url": "https://…", "doi": "10.5281/zenodo.1234"}[name]
            msg = f"{SETTINGS}, {name}: {value!r} is not of the form {example}: correct it, or remove the line"
            raise RateBenchError(msg)
        found[name] = value
    return found
