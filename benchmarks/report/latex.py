"""Text for LaTeX and BibTeX; the page's script has the same table."""

from __future__ import annotations

import re

from methods.interface import Card

TEX = {
    "\\": "\\textbackslash{}",
    "{": "\\{",
    "}": "\\}",
    **{letter: f"\\{letter}" for letter in "$&#_%"},
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    '"': "\\textquotedbl{}",
    "×": "$\\times$",
    "±": "$\\pm$",
    "·": "$\\cdot$",
    "–": "--",
    "−": "$-$",
    "√": "$\\surd$",
    "⁶": "$^6$",
    "†": "$\\dagger$",
    "▽": "$\\bigtriangledown$",
    **dict.fromkeys("\n\r\t", " "),
}
LAST = 0x17F  # the last letter that plain pdflatex supports; later ones become question marks


def tex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(TEX.get(letter, letter if ord(letter) <= LAST else "?") for letter in text)


def paper_entry(card: Card) -> str | None:
    """A BibTeX entry for the paper of a method; None if its card names no author."""
    names = [author for author in card.authors if author.strip()]
    if not names:
        return None
    key = re.sub(r"\W+", "", names[0].split()[-1]).lower() + f"{card.year}" + re.sub(r"\W+", "", card.key)
    fields = {
        "title": f"{{{tex(card.title)}}}",
        "author": " and ".join(map(tex, names)),
        "year": str(card.year),
        "howpublished": tex(card.venue),
        "eprint": tex(card.arxiv),
        "archiveprefix": "arXiv" if card.arxiv else "",
    }
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
    return f"@misc{{{key},\n{lines}\n}}"
