"""Files that settings name, and that do not exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from mom_core.config.wording import marks_of
from mom_core.settings import FileMustExist

if TYPE_CHECKING:
    from mom_core import Config
    from mom_core.config.document import KeyPath


def missing_files(config: Config) -> Iterator[tuple[KeyPath, Path]]:
    """Yield settings that need an existing file and have none, with the file's path."""
    for name, plugin in config.plugins.items():
        yield from _missing(plugin.settings, ("plugins", name))


def _missing(settings: BaseModel, place: KeyPath) -> Iterator[tuple[KeyPath, Path]]:
    for name, field in type(settings).model_fields.items():
        value: object = getattr(settings, name)
        here = (*place, field.alias or name)
        must_exist = any(isinstance(mark, FileMustExist) for mark in marks_of(field.annotation, field.metadata))
        if isinstance(value, BaseModel):
            yield from _missing(value, here)
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from _missing(item, (*here, number))
        elif must_exist and isinstance(value, Path) and not _may_exist(value):
            yield here, value


def _may_exist(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        return True
