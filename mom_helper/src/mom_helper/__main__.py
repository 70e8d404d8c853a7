"""`python3 -I -S …/mom_helper serve --user mom`: the program that runs as root.

serve --user NAME    execute requests from user NAME. [--socket PATH] is needed if systemd passes no socket. [--state FOLDER] stores
                     original values. [--declarations FOLDER:FOLDER…] are folders with root's declarations
serve-libvirt        execute requests from user NAME about guests of the libvirt at [--uri URI]; needs libvirt's Python module.
                     [--socket], [--declarations] and [--state] are as above
put-back             restore the original values while mom is not running. [--state FOLDER]
taker                move memory of guests to swap and back. Requests come from standard input, which is a socket. A mom that runs as root
                     starts this verb. [--unified FOLDER] and [--memory FOLDER] are the folders of control groups as that mom sees them
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Import the standard library before modules installed beside this file.
    HERE = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [*(path for path in sys.path if path != HERE), os.path.dirname(HERE)]

import gc
import pwd
import select
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mom_helper import libvirt_orders
from mom_helper.before import Before
from mom_helper.declarations import FOLDERS, Declared
from mom_helper.guests import HIERARCHIES, UNIFIED, Guests
from mom_helper.kernel import Allowance, libc
from mom_helper.orders import SOCKET
from mom_helper.taker import move_piece, step_back
from mom_helper.work import PAUSE_SECONDS, Done, Work, attend, parsed, peer_of

if TYPE_CHECKING:
    from mom_helper.libvirt_work import GuestWork

_STATE: Final = {"--state": "/run/mom-helper/before"}
_GROUPS: Final = {"--unified": HIERARCHIES[UNIFIED], "--memory": HIERARCHIES["memory"]}
_OPTIONS: Final = {"serve": {"--user": "", "--socket": SOCKET, "--declarations": FOLDERS, **_STATE}, "put-back": _STATE, "taker": _GROUPS}
_OPTIONS["serve-libvirt"] = {"--user": "", "--socket": libvirt_orders.SOCKET, "--declarations": FOLDERS, "--uri": "qemu:///system"}
_OPTIONS["serve-libvirt"] |= {"--state": "/var/lib/mom-libvirt-helper"}
MOST_CONNECTIONS: Final = 8
_MOST_OF_LIBVIRT: Final = 24
_PR_SET_PDEATHSIG: Final = 1

_FAILED_SECONDS: Final = 0.1
"""Pause after mom-helper could not accept a connection. Meanwhile, others may free descriptors."""


def main(verb: str, words: Sequence[str]) -> int:
    """Run the verb, and return the exit status."""
    defaults = _OPTIONS.get(verb, {})
    options = {**defaults, **dict(zip(words[::2], words[1::2], strict=False))}
    if verb not in _OPTIONS or len(words) % 2 or options.keys() != defaults.keys() or "" in options.values():
        sys.stderr.write(f"{__doc__}\n")
        return 2
    os.umask(0o022)
    signal.signal(signal.SIGALRM, lambda *_: None)  # a signal ends long system calls
    if verb == "taker":
        guests = Guests(None, {UNIFIED: options["--unified"], "memory": options["--memory"]}, Allowance(1 << 50, seconds=1))
        step_back()
        attend(socket.socket(fileno=os.dup(0)), lambda order, _: Done(*move_piece(order, guests)), lambda _: None, parsed)
        return 0
    log = OrderLog()
    if verb == "put-back":
        return 1 if Before(options["--state"]).put_back(log)[1] else 0
    try:
        user = pwd.getpwnam(options["--user"])
    except KeyError:
        sys.stderr.write(f"there is no user {options['--user']}: use --user with mom's user\n")
        return 2
    declared = Declared(options["--declarations"].split(":"), log)
    if verb == "serve-libvirt":
        try:
            from mom_helper.libvirt_work import GuestWork
        except ImportError as error:
            sys.stderr.write(f"libvirt's Python module cannot be loaded: {error}; install python3-libvirt\n")
            return 2

        log(f"serving user {user.pw_name} for guests of {options['--uri']}: {len(declared.destinations)} declared destinations")
        guest_work = GuestWork(declared, options["--uri"], options["--state"], log, user.pw_uid)
        serve(_listener(options["--socket"], user.pw_gid), guest_work, _MOST_OF_LIBVIRT)
        return 0
    log(f"serving user {user.pw_name}: {len(declared.files)} declared files, {len(declared.rules)} rules for guests")
    serve(_listener(options["--socket"], user.pw_gid), Work(declared, Before(options["--state"]), log, user.pw_uid))
    return 0


class OrderLog:
    """Log on standard error. It allows 20 lines per second, and bursts of 500, and skips others."""

    def __init__(self) -> None:
        self._allowance, self._errors = Allowance(20, seconds=25), select.poll()
        self._errors.register(2, select.POLLOUT)

    def __call__(self, text: str) -> None:
        """Write a line."""
        if not self._allowance.take() or self._errors.poll(0) != [(2, select.POLLOUT)]:
            return
        with suppress(OSError):  # a full disk must not stop requests
            os.write(2, text.encode("ascii", "backslashreplace").replace(b"\n", b" ")[:500] + b"\n")


def serve(listener: socket.socket, work: Work | GuestWork, most: int = MOST_CONNECTIONS) -> None:
    """Serve forever, with a child process for each connection. In a child process, return when its connection ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps children that exit
    new = Allowance(5, seconds=4)
    children: list[int] = []
    gc.collect()
    gc.freeze()  # children share these objects
    while True:
        try:
            connection, _ = listener.accept()
        except OSError as error:  # out of descriptors, or the client disconnected
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
            except OSError as error:  # out of processes
                work.log(f"a connection was not served: {error.strerror}")
                continue
            if pid == 0:
                libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                listener.close()
                return work.attend(connection)
            children.append(pid)


def _runs(child: int) -> bool:
    # Once this has returned False, another process may get the child's PID.
    try:
        os.waitpid(child, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _listener(path: str, group: int) -> socket.socket:
    # Use the socket from systemd. Without it, make one for root and the group of mom's user.
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        return socket.socket(fileno=3)
    with suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chown(path, 0, group)
    listener.listen(2 * MOST_CONNECTIONS)
    os.chmod(path, 0o660)
    return listener


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if sys.argv[1:] else "", sys.argv[2:]))
