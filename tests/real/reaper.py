"""Run a program, and reap what it leaves behind: `reaper.py FILE PROGRAM [ARGUMENT …]` writes the program's process id into FILE.

libvirt's guests are orphans by design, and one that has ended looks alive until somebody reaps it. Where process 1 takes its time with
that, or never does it, as in containers, each guest's end takes seconds, or forever. This ends when nobody is left to be reaped.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h."""


def main(file: str, *command: str) -> None:
    """Start the program, and wait for it and for all orphans below it."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this process cannot become the one that reaps orphans")
    for number in (signal.SIGINT, signal.SIGTERM):  # the program's own guests would be orphans of process 1
        signal.signal(number, signal.SIG_IGN)
    child = os.posix_spawnp(command[0], command, os.environ, setsigdef=(signal.SIGINT, signal.SIGTERM))
    Path(f"{file}.new").write_text(str(child))
    Path(f"{file}.new").replace(file)
    with suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
