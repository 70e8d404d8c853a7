"""`python3 -I -S …/mom_helper serve --user mom`: the program that runs as root.

serve --user NAME    follow the orders of user NAME. [--socket PATH] where systemd gives none, [--state FOLDER] for what stood there
                     before, [--declarations FOLDER:FOLDER…] for what root declares
put-back             put back what stood there before, without an engine. [--state FOLDER]
taker                move memory of guests as standard input, a socket, says; for a mom that is root itself. [--unified FOLDER] and
                     [--memory FOLDER] where that sees the control groups, from its own one or from all
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Modules of the standard library first, whatever else is installed beside this.
    HERE = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120  # pathlib takes a megabyte
    sys.path[:] = [*(path for path in sys.path if path != HERE), os.path.dirname(HERE)]  # noqa: PTH120  # as above

import pwd
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from mom_helper.before import Before
from mom_helper.declarations import FOLDERS, Declared
from mom_helper.guests import HIERARCHIES, UNIFIED, Guests
from mom_helper.kernel import Allowance
from mom_helper.orders import SOCKET
from mom_helper.server import MOST_CONNECTIONS, OrderLog, serve
from mom_helper.taker import moved, step_back
from mom_helper.work import Done, Work, attend

_STATE: Final = {"--state": "/var/lib/mom-helper"}
_GROUPS: Final = {"--unified": HIERARCHIES[UNIFIED], "--memory": HIERARCHIES["memory"]}
_OPTIONS: Final = {"serve": {"--user": "", "--socket": SOCKET, "--declarations": FOLDERS, **_STATE}, "put-back": _STATE, "taker": _GROUPS}
_FIRST_OF_SYSTEMD: Final = 3


def main(verb: str, given: Sequence[str]) -> int:
    """What the process ends with."""
    known, named = _OPTIONS.get(verb, {}), dict(zip(given[::2], given[1::2], strict=False))
    options = {**known, **named}
    if verb not in _OPTIONS or len(given) % 2 or options.keys() != known.keys() or "" in options.values():
        sys.stderr.write(f"{__doc__}\n")
        return 2
    os.umask(0o077)
    signal.signal(signal.SIGALRM, lambda *_: None)  # it ends calls of the kernel that would take too long
    if verb == "taker":
        guests = Guests(None, {UNIFIED: options["--unified"], "memory": options["--memory"]}, Allowance(1 << 50, seconds=1))
        step_back()
        attend(socket.socket(fileno=os.dup(0)), lambda order, _: Done(*moved(order, guests)), lambda _: None)
        return 0
    log, before = OrderLog(), Before(options["--state"])
    if verb == "put-back":
        return 1 if before.put_back(log)[1] else 0
    try:
        user = pwd.getpwnam(options["--user"])
    except KeyError:
        sys.stderr.write(f"there is no user {options['--user']}: name mom's\n")
        return 2
    declared = Declared(options["--declarations"].split(":"), log)
    log(f"orders of user {user.pw_name}: {len(declared.files)} files may be written, {len(declared.rules)} kinds of processes are guests")
    serve(_listener(options["--socket"], user.pw_gid), Work(declared, before, log, user.pw_uid))
    return 0


def _listener(path: str, group: int) -> socket.socket:
    """The socket that systemd has made, or one that only root and the engine's group can reach."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        return socket.socket(fileno=_FIRST_OF_SYSTEMD)
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108  # as above
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chown(path, 0, group)
    os.chmod(path, 0o660)  # noqa: PTH101  # as above
    listener.listen(2 * MOST_CONNECTIONS)
    return listener


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if sys.argv[1:] else "", sys.argv[2:]))
