"""`mom`, in the process of the test."""

from collections.abc import Callable

import pytest

from mom_daemon.cli import frame


@pytest.fixture
def mom(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a verb: its exit code, and what it writes on standard output and on standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = frame.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run
