"""Policies in Python from a folder that only root and mom's user can write."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib.abc import SourceLoader
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any, Final, NamedTuple

from mom_core import ConfigError, ConfigProblem, printable, untrusted

_LONGEST: Final = 1 << 20  # bytes of a policy
_HINT: Final = "a policy defines `def decide(host, guests):`, which yields decisions; the policies in force stay"


class PythonPolicy(NamedTuple):
    """Loaded policy."""

    path: Path
    decide: Callable[[Any, Any], object]


class _SourceOnly(SourceLoader):
    """Loader without bytecode files."""

    def get_filename(self, fullname: str) -> str:
        return fullname

    def get_data(self, path: str) -> bytes:
        return Path(path).read_bytes()


def read_policies(directory: Path) -> list[PythonPolicy]:
    """Load `*.py` in name order, except names that begin with `.` or `_`.

    :raises ConfigError: with all errors by file and line
    """
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".py" and path.name[0] not in "._")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _refused(directory, f"cannot be listed: {error.strerror}", "use a folder that mom's user can read") from error
    _refuse_untrusted(directory)
    result, problems = list[PythonPolicy](), list[ConfigProblem]()
    for path in paths:
        try:
            result.append(_loaded(path))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    return result


def _refuse_untrusted(path: Path) -> None:
    reason = untrusted(path)
    if reason:
        try:
            status = path.stat()
        except OSError as error:  # such as a broken link
            raise _refused(path, f"cannot be read: {error.strerror}", "repair it, or remove it from the folder") from error
        whose = f"{path.name} belongs to the user {status.st_uid} and has the mode {status.st_mode & 0o7777:03o}"
        hint = "anyone who can write there could run programs as mom's user: `chown root` and `chmod go-w`"
        raise _refused(path, f"is not used: {reason}; {whose}", hint)


def _refused(path: Path, message: str, hint: str, line: int = 0) -> ConfigError:
    return ConfigError([ConfigProblem(printable(str(path), 400), line, min(line, 1), printable(message, 400), hint)])


def _loaded(path: Path) -> PythonPolicy:
    _refuse_untrusted(path)
    if not path.is_file() or path.stat().st_size > _LONGEST:
        raise _refused(path, f"is not a regular file of at most {_LONGEST:,} bytes", _HINT)
    module = ModuleType(str(path))
    sys.modules[module.__name__] = module  # data classes look there during the import
    try:
        _SourceOnly().exec_module(module)
        inspect.signature(module.decide).bind("the host", "the guests")
    except (Exception, SystemExit) as error:  # the operator's code may raise anything
        raise _refused(path, f"{type(error).__name__}: {error}", _HINT, line_of(error, path)) from error
    finally:
        del sys.modules[module.__name__]
    return PythonPolicy(path, module.decide)


def line_of(error: BaseException, path: Path) -> int:
    """Return the number of the line in `path` that raised the error; 0 if no line of this file is involved."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
    return lines[-1] if lines else getattr(error, "lineno", None) or 0
