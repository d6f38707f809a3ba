"""Templates: their location, filters and the suite's version."""

from __future__ import annotations

import importlib.metadata
import urllib.parse

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from benchmarks.records import described
from benchmarks.report.columns import significant


def version() -> str:
    """The installed version of the suite."""
    try:
        return importlib.metadata.version("ratebench")
    except importlib.metadata.PackageNotFoundError:
        return "unreleased"


def exact(value: float) -> str:
    """A paper's number with the digits that it was typed in with."""
    return f"{value:,}".removesuffix(".0")


def signed(value: float, decimals: int = 2) -> str:
    """With a sign, the minus as long as the plus."""
    return f"{value:+,.{decimals}f}".replace("-", "−")


def image_url(svg: bytes) -> str:
    """An SVG as a data address; an image can't run scripts, whatever its texts hold."""
    return "data:image/svg+xml," + urllib.parse.quote(svg, safe=" !$()*+,-./:;=?@[]_|~'")


def with_code(text: str) -> Markup:
    """What stands between backticks as code, all else as it is, escaped."""
    return Markup(MarkdownIt("zero").enable("backticks").renderInline(text))


def environment() -> jinja2.Environment:
    """Templates with the filters that they share; what is filled in is escaped."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("benchmarks.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "significant": significant,
        "exact": exact,
        "signed": signed,
        "decimals": lambda value, digits: f"{value:,.{digits}f}",
        "named": described.named,
        "budget": lambda name: described.budget_text(name, None),
        "image": image_url,
        "with_code": with_code,
    }
    return made


def source(templates: jinja2.Environment, name: str) -> str:
    """A template's text as it lies there: styles and scripts are not filled in."""
    assert templates.loader is not None
    return templates.loader.get_source(templates, name)[0]
