"""What the tests do with a page that is open in a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

Open = Callable[..., Page]


def shown(page: Page) -> list[str]:
    return page.eval_on_selector_all("#rows tbody tr[data-key]", "rows => rows.map(row => row.dataset.key)")  # type: ignore[no-any-return]


def saved(page: Page, kind: str) -> str:
    with page.expect_download() as download:
        page.click(f"[data-export={kind}]")
    return Path(download.value.path()).read_text(encoding="utf-8")


def serious(page: Page) -> str:
    """What axe-core finds that keeps people from reading a page, as JSON; "[]" where there is nothing."""
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
    bad = [v for v in found.response["violations"] if v["impact"] in ("serious", "critical")]
    return json.dumps([(v["id"], [n["html"][:200] for n in v["nodes"][:3]]) for v in bad], indent=1)


def open_details(page: Page) -> None:
    page.evaluate("() => { for (const one of document.querySelectorAll('details')) one.open = true; }")
