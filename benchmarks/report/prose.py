"""What a method's own files say about it, as HTML: the docstring of its module, and its README.

HTML in them is shown as text, and only https links remain links: the page contains no other files.
"""

from __future__ import annotations

import ast
import re

from markdown_it import MarkdownIt
from markupsafe import Markup

import methods

# A table in a README may be wider than a phone.
_SCROLLED = r'<div class="scroll" tabindex="0" role="group" aria-label="table">\g<0></div>'


def docstring(key: str) -> Markup:
    """The docstring of a method's module; empty if there is none, or no such method."""
    source = _source(key, "__init__.py")
    try:
        return _html(ast.get_docstring(ast.parse(source)) or "")
    except (SyntaxError, ValueError):  # files of a third party may have changed since they were imported
        return Markup("")


def readme(key: str, title: str) -> Markup:
    """A method's README without its heading, and without the paragraph that cites the paper called `title`.

    Empty if there is none: a method of a single file has only a docstring.
    """
    paragraphs = re.sub(r"^# .*\n", "", _source(key, "README.md")).strip().split("\n\n")
    if title and title in " ".join(paragraphs[0].split()):  # the page has the citation from the method's card
        del paragraphs[0]
    return _html("\n\n".join(paragraphs))


def _source(key: str, name: str) -> str:
    """The text of a file in a method's package, or of the file that is the whole method."""
    try:
        source = methods.source(key)
        file = source / name if source.is_dir() else source
        return file.read_text(encoding="utf-8") if file.suffix == name[name.rindex(".") :] else ""
    except Exception:  # a method of a third party may be anywhere, or missing
        return ""


def _html(text: str) -> Markup:
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    html = re.sub(r"<(/?)h[1-6]>", r"<\1h3>", html)
    html = re.sub(r"<table>.*?</table>", _SCROLLED, html, flags=re.S)
    return Markup(re.sub(r'<a href="(?!https://)[^>]*>(.*?)</a>', r"\1", html, flags=re.S))
