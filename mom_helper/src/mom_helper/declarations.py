"""What root has declared: which files may be written within which bounds, whose processes are guests, and how much may be ordered."""

from __future__ import annotations

import configparser
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

FOLDERS: Final = "/usr/lib/mom/helper.d:/etc/mom/helper.d"
"""Of mom's own packages, and of others; what is declared twice is as the later file says."""

_MOST: Final = (1 << 63) - 1


class WritableFile(NamedTuple):
    """A knob, by its path, or a file of guests' control groups, by its name: the least and most that may be written, or the only values."""

    name: str
    least: int
    most: int
    values: Sequence[int]
    unlimited: bool
    """Whether a group's file may be `max`, which is -1 here."""

    def allows(self, value: int) -> bool:
        """Whether this may be written."""
        return (value == -1 and self.unlimited) or (value in self.values if self.values else self.least <= value <= self.most)


class GuestUsers(NamedTuple):
    """Processes of these users (ids), in control groups below these (such as `/machine.slice/`), are guests."""

    users: frozenset[int]
    groups: tuple[str, ...]


class Declared:
    """All of it. `orders` and `reclaim_bytes` are what may be ordered a second; `destinations` are URIs of hypervisors that guests may be
    moved to, each with the way behind a space where there is one.

    What is malformed, or others than root can write to, is left out.

    :param folders: that have the files `*.conf`
    """

    def __init__(self, folders: Iterable[str], log: Callable[[str], None]) -> None:
        self.files: dict[str, WritableFile] = {}
        self.rules: dict[str, GuestUsers] = {}
        self.destinations: dict[str, str] = {}
        self.orders, self.reclaim_bytes = 2000, 1 << 30
        for folder in filter(os.path.isdir, folders):
            for path in sorted(f"{folder}/{name}" for name in os.listdir(folder) if name.endswith(".conf")):  # noqa: PTH208  # pathlib takes 1 MB
                parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), inline_comment_prefixes=(";", "#"))
                try:
                    if not _is_roots(os.path.realpath(path)):
                        raise ValueError("others than root can write to it, or to a folder above it")
                    parser.read(path, encoding="utf-8")
                except (OSError, ValueError, configparser.Error) as error:
                    log(f"{path} is left out: {error}")
                    continue  # what was read before the mistake may be half of what root meant
                for name in parser.sections():
                    try:
                        self._take(parser[name])
                    except ValueError as error:
                        log(f"{path}: [{name}] is left out: {error}")

    def _take(self, section: configparser.SectionProxy) -> None:
        kind, _, name = section.name.partition(" ")
        if kind == "guests":
            groups = (f"/{one.strip('/')}/".replace("//", "/") for one in section.get("slices", "").split())
            self.rules[name] = GuestUsers(frozenset(_user_ids(section.get("users", "").split())), tuple(groups))
        elif kind == "destination" and name and section.get("uri"):
            self.destinations[name] = f"{section['uri']} {section.get('way', '')}".strip()
        elif kind == "limits":
            self.orders, self.reclaim_bytes = section.getint("orders", 2000), section.getint("reclaim_mib", 1024) << 20
        elif (kind == "knob" and name.startswith("/") and os.path.normpath(name) == name) or (kind == "group" and name and "/" not in name):
            values = tuple(map(int, section.get("values", "").split()))
            least = section.getint("least", min(values, default=None))
            most = section.getint("most", max(values, default=_MOST if kind == "group" else None))
            if least is None or most is None or least > most:
                raise ValueError("write least and most, or values")
            self.files[name] = WritableFile(name, least, most, values, kind == "group" and section.getboolean("max", False))
        else:
            raise ValueError("write [knob PATH], [group FILE], [guests NAME], [destination NAME] with its uri, or [limits]")


def _is_roots(path: str) -> bool:
    """Whether nobody but root can write to a file, or put another in its place; without links in its path."""
    found, above = os.stat(path), os.path.dirname(path)  # noqa: PTH116, PTH120  # as above
    sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    return found.st_uid == 0 and (not found.st_mode & 0o022 or bool(sticky)) and (path == above or _is_roots(above))


def _user_ids(users: Iterable[str]) -> Iterator[int]:
    """Of a name that this host does not have, none."""
    for user in users:
        with suppress(KeyError):
            yield int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
