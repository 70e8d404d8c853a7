"""Where the monitors are: sockets that match patterns, as the operator writes them, and whose they may be."""

from __future__ import annotations

import glob
import os
import pwd
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from mom_core import HypervisorError, MomError, PermissionDenied, printable, untrusted
from mom_kvm import ProcessStat

MOST_MONITORS: Final = 10_000
"""More guests than any host has: a pattern that fits a folder with millions of files must not fill the memory."""


def checked(patterns: Sequence[str]) -> Sequence[str]:
    """Patterns as settings have them. Raises `ValueError`."""
    for pattern in patterns:
        if not pattern.startswith("/") or "\0" in pattern:
            raise ValueError(f"{pattern!r} is no path that begins with /, such as /run/qemu/*.qmp")
        if "**" in pattern:
            raise ValueError(f"{pattern!r}: write which folders, as ** would have all of them searched in each cycle")
    return patterns


def trusted_users(names: Sequence[str]) -> Set[int]:
    """The ids of the users whose monitors are believed: root, mom's own, and these. Raises `MomError` for one that is not there."""
    found = {0, os.geteuid()}
    for name in names:
        try:
            found.add(pwd.getpwnam(name).pw_uid)
        except KeyError as error:
            raise MomError(f"there is no user {printable(name)}", hint="`users` of the plugin qemu are those that run QEMU here") from error
    return found


def refused(folder: str, users: Set[int]) -> str:
    """Why another user than these could have put monitors into a folder; empty: none could."""

    def look(path: str) -> os.stat_result:
        status = os.lstat(path)
        return os.stat_result((*status[:4], 0, *status[5:])) if status.st_uid in users else status

    return untrusted(Path(folder), look)


def monitors(root: Path, patterns: Sequence[str], users: Set[int] = frozenset({0}), named: Iterable[str] = ()) -> list[str]:
    """The paths that match any of these patterns now, and those of `named` that are there, without repetitions.

    They come in the order of the patterns, and then of the names.

    Raises `PermissionDenied` for a folder that this user may not read, and for one with monitors that other users than `users` could have
    put there, and `HypervisorError` for one that cannot be listed now: what is in it is not to be taken for gone.
    """
    found = {path: None for path in named if _is_there(path)}
    for pattern in patterns:
        below = str(root / pattern.lstrip("/"))
        folder = _folder(below)
        if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):  # noqa: PTH112  # as below
            raise PermissionDenied(f"{folder} cannot be read", hint=_LET_IN.format(folder))
        _list(folder)
        found |= dict.fromkeys(sorted(islice(glob.iglob(below), MOST_MONITORS)))  # noqa: PTH207  # pathlib takes four times as long
    for folder in dict.fromkeys(map(os.path.dirname, found)):
        reason = refused(folder, users)
        if reason:
            raise PermissionDenied(f"the monitors in {folder} are not used: {reason}", hint=_OWN_IT)
    return list(islice(found, MOST_MONITORS))


def _list(folder: str) -> None:
    """Raise `HypervisorError` where a folder cannot be listed, as where too many files are open: `glob` takes that for an empty one."""
    try:
        os.scandir(folder).close()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise HypervisorError(f"{folder} cannot be listed: {error.strerror}", hint="see LimitNOFILE of mom's unit") from error


def _is_there(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116  # pathlib takes four times as long
    except PermissionError as error:
        hint = _LET_IN.format(os.path.dirname(path))  # noqa: PTH120  # as above
        raise PermissionDenied(f"whether there is {printable(path)} cannot be seen", hint=hint) from error
    except (OSError, ValueError):
        return False
    return True


_LET_IN: Final = "let mom's user into it: setfacl -m u:USER:rx {}; or run mom as root"

_OWN_IT: Final = "a fake guest could be put there: `chown root` and `chmod go-w` it; or name QEMU's own user in `users` of the plugin qemu"


def listeners_of(proc: Path, paths: Set[str], users: Set[int]) -> dict[str, int]:
    """Return the processes of these users that listen at unix sockets, by path, found without connecting to them; without those that cannot
    be seen from here.

    It looks at the open files of all processes, which is much: not to be asked in each cycle.
    """
    wanted = {f"socket:[{number}]": path for number, path in _listening_sockets(proc, paths).items()}
    found: dict[str, int] = {}
    for process in ProcessStat.ids(proc) or () if wanted else ():
        with suppress(OSError):  # it has ended, or is another user's
            if os.stat(f"{proc}/{process}").st_uid in users:  # noqa: PTH116  # pathlib takes four times as long
                found |= {wanted.pop(file): process for file in _open_files(f"{proc}/{process}/fd") if file in wanted}
        if not wanted:
            break
    return found


def listens(proc: Path, process: int, path: str) -> bool | None:
    """This process has the socket open that listens at a path; None: it cannot be seen from here."""
    listening = {f"socket:[{number}]" for number in _listening_sockets(proc, {path})}
    try:
        return not listening.isdisjoint(_open_files(f"{proc}/{process}/fd")) if listening else None
    except OSError:
        return None


def _open_files(folder: str) -> Iterator[str]:
    """The targets of a process's open files. Raises `OSError` where they cannot be seen."""
    for file in os.listdir(folder):  # noqa: PTH208  # names are enough
        with suppress(OSError):  # it was closed meanwhile
            yield os.readlink(f"{folder}/{file}")  # noqa: PTH115  # pathlib takes four times as long


def _listening_sockets(proc: Path, paths: Set[str]) -> dict[str, str]:
    """Return the paths of the sockets that listen there, by the sockets' numbers. A line of /proc/net/unix is
    `NUMBER: REFERENCES PROTOCOL FLAGS TYPE STATE INODE PATH`.

    A path may hold line feeds, so any user can have lines of their own in that list: they hide no other line, and prove nothing.
    """
    try:
        with (proc / "net/unix").open("rb") as file:
            listed = file.read(_SOCKETS_BYTES)  # in as many reads as it takes: one gives a page of a list
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in listed.decode(errors="surrogateescape").split("\n"):
        words = line.split(maxsplit=7)
        if len(words) == 8 and words[7] in paths and words[3] == _LISTENS:
            found[words[6]] = words[7]
    return found


_LISTENS: Final = "00010000"
"""The flags of a socket that accepts connections (__SO_ACCEPTCON); connections that it has accepted have the same path."""

_SOCKETS_BYTES: Final = 16 << 20
"""100 bytes for each of the host's unix sockets."""


def _folder(pattern: str) -> str:
    """The folder above the first wildcard."""
    fixed = pattern
    while glob.has_magic(fixed):
        fixed = os.path.dirname(fixed)  # noqa: PTH120  # as above
    return fixed if fixed != pattern else os.path.dirname(fixed)  # noqa: PTH120  # as above
