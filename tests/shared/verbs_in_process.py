"""Run commands of mom in the test's process. A new process would import all of mom first."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from mom_daemon.cli import frame


def run_verb(*words: str, site: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return the exit code and output of a command.

    :param site: folder with additional distributions
    :param environment: additional variables
    """
    with (
        patch.dict(os.environ, environment),
        patch.object(sys, "path", [*([str(site)] if site else []), *sys.path]),
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
    ):
        code = frame.run(words)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
