"""Run a program, and reap its orphans: `reaper.py FILE PROGRAM [ARGUMENT …]` writes the program's pid to FILE.

libvirt's guests are orphans. An ended guest looks alive until it is reaped. In containers, process 1 may reap late or never. This
process ends when no child is left.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
"""Constant of linux/prctl.h."""


def main(file: str, *command: str) -> None:
    """Start the program, and wait for it and all its orphans."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this process cannot become the one that reaps orphans")
    for number in (signal.SIGINT, signal.SIGTERM):  # otherwise, guests would become orphans of process 1
        signal.signal(number, signal.SIG_IGN)
    child = os.posix_spawnp(command[0], command, os.environ, setsigdef=(signal.SIGINT, signal.SIGTERM))
    Path(f"{file}.new").write_text(str(child))
    Path(f"{file}.new").replace(file)
    with suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
