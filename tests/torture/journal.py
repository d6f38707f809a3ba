"""What has been tried, one line of JSON each, so that an interrupted session goes on where it was."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any


class Journal:
    """The lines of a file, by key; a line that a kill has cut off is not counted."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self.entries: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = b""
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
            if line.endswith(b"\n"):
                entry = json.loads(line)
                self.entries[entry["key"]] = entry
                whole += line
        path.write_bytes(whole)

    def note(self, key: str, **found: Any) -> None:
        entry = {"key": key, **found}
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(entry)}\n")
            self.entries[key] = entry
