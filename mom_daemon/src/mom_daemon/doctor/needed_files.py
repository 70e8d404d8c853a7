"""Unusable files and folders in settings."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from mom_core.config.wording import marks_of
from mom_core.settings import FileMustExist

if TYPE_CHECKING:
    from mom_core import Config
    from mom_core.config.document import KeyPath


def file_faults(config: Config) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield settings whose file or folder is unusable, with fault and fix."""
    for place, path in named_files(config):
        if why := _why_not(path):
            yield place, why, "create this file, or set the path of another file"
    for name in ("state_directory", "run_directory"):
        if why := _why_no_folder(getattr(config, name)):
            yield (name,), why, "set the path of another folder"


def named_files(config: Config) -> Iterator[tuple[KeyPath, Path]]:
    """Yield (setting, file) pairs for settings that need an existing file."""
    for name, plugin in config.plugins.items():
        yield from _named(plugin.settings, ("plugins", name))


def _named(settings: BaseModel, place: KeyPath) -> Iterator[tuple[KeyPath, Path]]:
    for name, field in type(settings).model_fields.items():
        value: object = getattr(settings, name)
        here = (*place, field.alias or name)
        if isinstance(value, BaseModel):
            yield from _named(value, here)
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from _named(item, (*here, number))
        elif isinstance(value, Path) and any(isinstance(mark, FileMustExist) for mark in marks_of(field.annotation, field.metadata)):
            yield here, value


def _why_no_folder(folder: Path) -> str:
    for path in (folder, *folder.parents):
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return ""
        if not stat.S_ISDIR(status.st_mode):
            return f"{path} is not a folder"
        denied = not os.access(path, os.R_OK | os.W_OK | os.X_OK)
        return f"{path} is not writable" if denied and os.geteuid() in {0, status.st_uid} else ""
    return ""


def _why_not(path: Path) -> str:
    try:
        path.stat()
    except PermissionError:
        return ""
    except OSError as error:
        return f"{path}: {(error.strerror or str(error)).lower()}"
    return f"{path} is a folder, not a file" if path.is_dir() else ""
