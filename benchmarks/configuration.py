"""A method's configuration as plain data. The settings that differ from the defaults identify it."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from benchmarks.fingerprint import json_hash

__fingerprint__ = False  # names configurations


def plain(config: Any) -> dict[str, Any]:
    """A method's `Config` in the form of a record: plain JSON values."""
    return cast(dict[str, Any], msgspec.json.decode(msgspec.json.encode(config)))


def changes(config: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The settings that differ from the defaults. A new setting does not rename the configurations that do not use it."""
    return {name: value for name, value in config.items() if name not in defaults or value != defaults[name]}


def config_hash(changed: dict[str, Any]) -> str:
    """The id of a configuration with these changes."""
    return json_hash(changed)[:8]


def recorded_changes(config: dict[str, Any], name: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """The changes of a recorded configuration with the id `name`, without removed settings that had their default value.

    The id depends only on the changes: if it stays the same without these settings, they were not among the changes.
    """
    still = changes({key: value for key, value in config.items() if key in defaults}, defaults)
    return still if config_hash(still) == name else changes(config, defaults)
