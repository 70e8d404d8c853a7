"""Reader of policies in Python from a folder that only root and mom's user can write."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any, Final, NamedTuple

from mom_core import ConfigProblem, printable
from mom_plugins_policy.sources import read_folder

_HINT: Final = "a policy defines `def decide(host, guests):`, which yields decisions; a failed reload keeps the old policies"


class PythonPolicy(NamedTuple):
    """Loaded policy."""

    path: Path
    decide: Callable[[Any, Any], object]


def read_policies(directory: Path) -> list[PythonPolicy]:
    """Load `*.py` in name order, except names that begin with `.` or `_`.

    :raises ConfigError: with all errors by file and line
    """
    sources = read_folder(directory, ".py", ignored="_")
    policies = list[PythonPolicy]()
    for name, text in sources.texts.items():
        path = Path(sources.files[name])
        try:
            policies.append(PythonPolicy(path, _decide_in(path, text)))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the operator's code may raise anything
            line, message = line_of(error, path), printable(f"{type(error).__name__}: {error}", 400)
            sources.problems.append(ConfigProblem(printable(str(path), 400), line, min(line, 1), message, _HINT))
    sources.usable()
    return policies


def _decide_in(path: Path, text: str) -> Callable[[Any, Any], object]:
    module = ModuleType(str(path))
    sys.modules[module.__name__] = module  # `dataclass` looks there for the module of a class
    try:
        exec(compile(text.removeprefix("\ufeff"), path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # only root and mom's user can write the file
        inspect.signature(module.decide).bind("the host", "the guests")
        decide: Callable[[Any, Any], object] = module.decide
    finally:
        del sys.modules[module.__name__]
    return decide


def line_of(error: BaseException, path: Path) -> int:
    """Return the number of the line in `path` that raised the error; 0 if there is none."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
    return lines[-1] if lines else getattr(error, "lineno", None) or 0
