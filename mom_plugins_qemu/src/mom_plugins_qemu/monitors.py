"""Search for monitors' sockets that match patterns. mom trusts the sockets of trusted users."""

from __future__ import annotations

import glob
import os
import pwd
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from mom_core import HypervisorError, MomError, PermissionDenied, printable, untrusted
from mom_kvm import ProcessStat

_MOST_MONITORS: Final = 10_000
"""Maximum number of monitors that mom uses. A pattern may match millions of files."""


def check_patterns(patterns: Sequence[str]) -> Sequence[str]:
    """Return a setting's patterns. Raise `ValueError` for an invalid pattern."""
    for pattern in patterns:
        if not pattern.startswith("/") or "\0" in pattern:
            raise ValueError(f"{pattern!r} is not a path that begins with /, such as /run/qemu/*.qmp")
        if "**" in pattern:
            raise ValueError(f"{pattern!r}: ** would search all folders in each cycle; name the folders instead")
    return patterns


def trusted_users(names: Sequence[str]) -> Set[int]:
    """Return the IDs of trusted users: root, mom's own user, and the users in `names`. Raise `MomError` for an unknown name."""
    users = {0, os.geteuid()}
    for name in names:
        try:
            users.add(pwd.getpwnam(name).pw_uid)
        except KeyError as error:
            raise MomError(
                f"there is no user {printable(name)}", hint="correct `users` of the qemu plugin: it lists the users who run QEMU here"
            ) from error
    return users


def _why_untrusted_folder(folder: str, users: Set[int]) -> str:

    def look(path: str) -> os.stat_result:
        status = os.lstat(path)
        return os.stat_result((*status[:4], 0, *status[5:])) if status.st_uid in users else status

    return untrusted(Path(folder), look)


def find_monitors(root: Path, patterns: Sequence[str], users: Set[int] = frozenset({0})) -> list[str]:
    """Return the monitors that match the patterns.

    :raises PermissionDenied: a folder is unreadable, or other users than `users` can create monitors in it
    :raises HypervisorError: a temporary error
    """
    paths: dict[str, None] = {}
    for pattern in patterns:
        below = str(root / pattern.lstrip("/"))
        folder = _folder(below)
        if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):  # noqa: PTH112  # as below
            raise PermissionDenied(f"{folder} cannot be read", hint=_LET_IN.format(folder))
        _list(folder)
        paths |= dict.fromkeys(sorted(islice(glob.iglob(below), _MOST_MONITORS)))  # noqa: PTH207  # pathlib takes four times as long
    for folder in dict.fromkeys(map(os.path.dirname, paths)):
        reason = _why_untrusted_folder(folder, users)
        if reason:
            raise PermissionDenied(f"mom does not use the monitors in {folder}: {reason}", hint=_OWN_IT)
    return list(islice(paths, _MOST_MONITORS))


def _list(folder: str) -> None:
    # Raise `HypervisorError` if a folder cannot be listed: `glob` would hide the error, and return nothing.
    try:
        os.scandir(folder).close()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise HypervisorError(f"{folder} cannot be listed: {error.strerror}", hint="check LimitNOFILE of mom's unit") from error


_LET_IN: Final = "give mom's user access to the folder: setfacl -m u:USER:rx {}; or run mom as root"

_OWN_IT: Final = (
    "another user could create a fake guest there: `chown root` and `chmod go-w` the folder; or add QEMU's user to `users` of the qemu"
    " plugin"
)


def listeners_of(proc: Path, paths: Set[str], users: Set[int]) -> dict[str, int]:
    """Search the open files of all processes of `users`. Return the PIDs that listen on the paths, keyed by path."""
    sockets = {f"socket:[{number}]": path for number, path in _listening_sockets(proc, paths).items()}
    processes: dict[str, int] = {}
    for process in ProcessStat.ids(proc) or () if sockets else ():
        with suppress(OSError):  # the process has exited, or belongs to another user
            if os.stat(f"{proc}/{process}").st_uid in users:  # noqa: PTH116  # pathlib takes four times as long
                processes |= {sockets.pop(file): process for file in _open_files(f"{proc}/{process}/fd") if file in sockets}
        if not sockets:
            break
    return processes


def _open_files(folder: str) -> Iterator[str]:
    for file in os.listdir(folder):  # noqa: PTH208  # names are enough
        with suppress(OSError):  # closed meanwhile
            yield os.readlink(f"{folder}/{file}")  # noqa: PTH115  # pathlib takes four times as long


def _listening_sockets(proc: Path, paths: Set[str]) -> dict[str, str]:
    # A line is `NUMBER: REFERENCES PROTOCOL FLAGS TYPE STATE INODE PATH`. Any user can add false lines, because a path may contain line
    # feeds.
    try:
        with (proc / "net/unix").open("rb") as file:
            listed = file.read(_SOCKETS_BYTES)  # needs several reads
    except OSError:
        return {}
    listening: dict[str, str] = {}
    for line in listed.decode(errors="surrogateescape").split("\n"):
        words = line.split(maxsplit=7)
        if len(words) == 8 and words[7] in paths and words[3] == _LISTENS:
            listening[words[6]] = words[7]
    return listening


_LISTENS: Final = "00010000"
"""Flag __SO_ACCEPTCON of a listening socket. Accepted connections have the same path, but not this flag."""

_SOCKETS_BYTES: Final = 16 << 20
"""Maximum number of bytes read of /proc/net/unix, which has 100 bytes per unix socket."""


def _folder(pattern: str) -> str:
    fixed = pattern
    while glob.has_magic(fixed):
        fixed = os.path.dirname(fixed)  # noqa: PTH120  # as above
    return fixed if fixed != pattern else os.path.dirname(fixed)  # noqa: PTH120  # as above
