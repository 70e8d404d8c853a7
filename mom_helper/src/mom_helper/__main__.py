"""`python3 -I -S …/mom_helper serve --user mom`: the program that runs as root.

serve --user NAME    follow the orders of user NAME. [--socket PATH] where systemd gives none, [--state FOLDER] for what stood there
                     before, [--declarations FOLDER:FOLDER…] for what root declares
serve-libvirt        follow the orders of user NAME about guests of the libvirt at [--uri URI]; this alone needs libvirt's Python module.
                     [--socket], [--declarations], [--state] likewise
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

import gc
import pwd
import select
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from mom_helper import libvirt_orders
from mom_helper.before import Before
from mom_helper.declarations import FOLDERS, Declared
from mom_helper.guests import HIERARCHIES, UNIFIED, Guests
from mom_helper.kernel import Allowance, libc
from mom_helper.orders import SOCKET
from mom_helper.taker import moved, step_back
from mom_helper.work import PAUSE_SECONDS, Done, OrderServer, Work, attend, parsed, peer_of

_STATE: Final = {"--state": "/run/mom-helper/before"}
_GROUPS: Final = {"--unified": HIERARCHIES[UNIFIED], "--memory": HIERARCHIES["memory"]}
_OPTIONS: Final = {"serve": {"--user": "", "--socket": SOCKET, "--declarations": FOLDERS, **_STATE}, "put-back": _STATE, "taker": _GROUPS}
_OPTIONS["serve-libvirt"] = {"--user": "", "--socket": libvirt_orders.SOCKET, "--declarations": FOLDERS, "--uri": "qemu:///system"}
_OPTIONS["serve-libvirt"] |= {"--state": "/var/lib/mom-libvirt-helper"}
MOST_CONNECTIONS: Final = 8
_MOST_OF_LIBVIRT: Final = 24
_PR_SET_PDEATHSIG: Final = 1

_FAILED_SECONDS: Final = 0.1
"""After a connection that could not be accepted: descriptors come free when others end, not at once."""


def main(verb: str, given: Sequence[str]) -> int:
    """What the process ends with."""
    known, named = _OPTIONS.get(verb, {}), dict(zip(given[::2], given[1::2], strict=False))
    options = {**known, **named}
    if verb not in _OPTIONS or len(given) % 2 or options.keys() != known.keys() or "" in options.values():
        sys.stderr.write(f"{__doc__}\n")
        return 2
    os.umask(0o022)
    signal.signal(signal.SIGALRM, lambda *_: None)  # it ends calls of the kernel that would take too long
    if verb == "taker":
        guests = Guests(None, {UNIFIED: options["--unified"], "memory": options["--memory"]}, Allowance(1 << 50, seconds=1))
        step_back()
        attend(socket.socket(fileno=os.dup(0)), lambda order, _: Done(*moved(order, guests)), lambda _: None, parsed)
        return 0
    log = OrderLog()
    if verb == "put-back":
        return 1 if Before(options["--state"]).put_back(log)[1] else 0
    try:
        user = pwd.getpwnam(options["--user"])
    except KeyError:
        sys.stderr.write(f"there is no user {options['--user']}: name mom's\n")
        return 2
    declared = Declared(options["--declarations"].split(":"), log)
    if verb == "serve-libvirt":
        try:
            from mom_helper.libvirt_work import GuestWork
        except ImportError as error:
            sys.stderr.write(f"libvirt's Python module cannot be loaded: {error}; install python3-libvirt\n")
            return 2

        log(f"orders of user {user.pw_name} about guests of {options['--uri']}: {len(declared.destinations)} destinations are declared")
        guest_work = GuestWork(declared, options["--uri"], options["--state"], log, user.pw_uid)
        serve(_listener(options["--socket"], user.pw_gid), guest_work, _MOST_OF_LIBVIRT)
        return 0
    log(f"orders of user {user.pw_name}: {len(declared.files)} files may be written, {len(declared.rules)} kinds of processes are guests")
    serve(_listener(options["--socket"], user.pw_gid), Work(declared, Before(options["--state"]), log, user.pw_uid))
    return 0


class OrderLog:
    """Lines on standard error, 20 a second and 500 at once; the next one says how many were left out.

    What is not read is left out, too: no order waits for a log.
    """

    def __init__(self) -> None:
        self._allowance, self._left_out, self._errors = Allowance(20, seconds=25), 0, select.poll()
        self._errors.register(2, select.POLLOUT)

    def __call__(self, text: str) -> None:
        """Say it."""
        if not self._allowance.take() or self._errors.poll(0) != [(2, select.POLLOUT)]:
            self._left_out += 1
            return
        more = f" ({self._left_out} lines more were left out)" if self._left_out else ""
        self._left_out = 0
        with suppress(OSError):  # what the disk of the log does not take keeps nothing from being done
            os.write(2, text.encode("ascii", "backslashreplace").replace(b"\n", b" ")[:500] + more.encode() + b"\n")


def serve(listener: socket.socket, work: OrderServer, most: int = MOST_CONNECTIONS) -> None:
    """Serve until the process is ended. It returns in a process that has served a connection, when that has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # of a process that has ended, nothing is left
    new = Allowance(5, seconds=4)
    children: list[int] = []
    gc.collect()
    gc.freeze()  # the copies share what is there now
    while True:
        try:
            connection, _ = listener.accept()
        except OSError as error:  # no descriptor is free, or the other end has gone already
            work.log(f"a connection was not accepted: {error.strerror}")
            time.sleep(_FAILED_SECONDS)
            continue
        with connection:
            children = [pid for pid in children if _runs(pid)]
            if peer_of(connection)[1] != work.user or len(children) >= most or not new.take():
                time.sleep(PAUSE_SECONDS)
                continue
            try:
                pid = os.fork()
            except OSError as error:  # there is no room for another process now
                work.log(f"a connection was not served: {error.strerror}")
                continue
            if pid == 0:
                libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                listener.close()
                return work.attend(connection)
            children.append(pid)


def _runs(child: int) -> bool:
    """Whether this child has not ended; once it has, its number may be another process's."""
    try:
        os.waitpid(child, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _listener(path: str, group: int) -> socket.socket:
    """The socket that systemd has made, or one that only root and the engine's group can reach."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        return socket.socket(fileno=3)  # the first that it hands over
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
