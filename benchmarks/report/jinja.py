"""Templates: their location, filters and the suite's version."""

from __future__ import annotations

import base64
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
    """A paper's number with all digits of reported.toml."""
    return f"{value:,}".removesuffix(".0")


def signed(value: float, decimals: int = 2) -> str:
    """A number with its sign; the minus is as wide as the plus."""
    return f"{value:+,.{decimals}f}".replace("-", "−")


def image_url(svg: bytes) -> str:
    """An SVG as a data URL. Scripts in an image do not run, whatever its texts contain."""
    return "data:image/svg+xml," + urllib.parse.quote(svg, safe=" !$()*+,-./:;=?@[]_|~'")


def picture_url(webp: bytes) -> str:
    """A WebP file as a data URL."""
    return "data:image/webp;base64," + base64.b64encode(webp).decode()


def with_code(text: str) -> Markup:
    """Text as escaped HTML; parts between backticks become code."""
    return Markup(MarkdownIt("zero").enable("backticks").renderInline(text))


def environment() -> jinja2.Environment:
    """The templates with their common filters; inserted values are escaped."""
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
        "picture": picture_url,
        "with_code": with_code,
    }
    return made


def source(templates: jinja2.Environment, name: str) -> str:
    """The text of a file beside the templates, such as a style or a script, without rendering."""
    assert templates.loader is not None
    return templates.loader.get_source(templates, name)[0]
