"""Commands `mom policy` in this process, with output and exit code."""

import contextlib
import io
import sys
from functools import cache
from typing import NamedTuple
from unittest import mock

import mom_daemon
from mom_core import Config, Declarations
from mom_daemon.cli.frame import run

_declared = mom_daemon.declarations_of


@cache
def _declared_by_all() -> Declarations:
    return _declared()


def _declarations_of(config: Config | None = None) -> Declarations:
    """Return cached declarations, because installed plugins do not change while tests run."""
    return _declared_by_all() if config is None else _declared(config)


class Done(NamedTuple):
    """Result of a command."""

    code: int
    out: str
    err: str


def mom_policy(*arguments: object, given: str | bytes = "") -> Done:
    """Run `mom policy …`. A traceback has code 70.

    :param given: standard input
    """
    raw = given.encode() if isinstance(given, str) else given
    out, err = io.StringIO(), io.StringIO()
    stdin = mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8", errors="strict"))
    declared = mock.patch.object(mom_daemon, "declarations_of", _declarations_of)
    with stdin, declared, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["policy", *map(str, arguments)])
    return Done(code, out.getvalue(), err.getvalue())
