"""Catalog of this project's plugins, installed or not."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple


class CatalogEntry(NamedTuple):
    """Distribution and summary of a plugin."""

    distribution: str
    summary: str


@cache
def catalog() -> Mapping[str, CatalogEntry]:
    """Return this project's plugins, keyed by name."""
    text = resources.files("mom_core.plugins").joinpath("catalog.toml").read_text(encoding="utf-8")
    return {name: CatalogEntry(**entry) for name, entry in tomllib.loads(text).items()}
