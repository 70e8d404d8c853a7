"""Root's declarations: writable files with bounds, processes of guests, and rate limits."""

from __future__ import annotations

import configparser
import os
import pwd
import stat
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

FOLDERS: Final = "/usr/lib/mom/helper.d:/etc/mom/helper.d"
"""Folders with declarations: first that of mom's packages, then that of root. Later declarations override earlier ones."""

_MOST: Final = (1 << 63) - 1


class WritableFile(NamedTuple):
    """File that mom may write, with permitted values. `name` is a knob's path, or a file's name in control groups."""

    name: str
    values: Container[int]
    unlimited: bool
    """Whether mom may write `max`, which is -1 in requests."""

    def allows(self, value: int) -> bool:
        """Return whether this value may be written."""
        return value in self.values or (value == -1 and self.unlimited)


class GuestUsers(NamedTuple):
    """Rule that identifies guests: user IDs of their processes, and paths of control groups such as `/machine.slice/`."""

    users: frozenset[int]
    groups: tuple[str, ...]


class Declared:
    """All declarations in the files `*.conf`.

    `orders` and `reclaim_bytes` are rates per second. `destinations` are URIs of hypervisors to which mom may move guests. After each
    URI, a space and the migration URI may follow. mom-helper ignores malformed entries, and files that users other than root can write.
    """

    def __init__(self, folders: Iterable[str], log: Callable[[str], None]) -> None:
        self.files: dict[str, WritableFile] = {}
        self.rules: dict[str, GuestUsers] = {}
        self.destinations: dict[str, str] = {}
        self.orders, self.reclaim_bytes = 2000, 1 << 30
        for folder in filter(os.path.isdir, folders):
            for path in sorted(f"{folder}/{name}" for name in os.listdir(folder) if name.endswith(".conf")):
                parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), inline_comment_prefixes=(";", "#"))
                try:
                    if not _is_roots(os.path.realpath(path)):
                        raise ValueError("users other than root can write to it, or to a folder above it")
                    parser.read(path, encoding="utf-8")
                except (OSError, ValueError, configparser.Error) as error:
                    log(f"{path} is ignored: {error}")
                    continue  # a part of a malformed file may not be what root intended
                for name in parser.sections():
                    try:
                        self._take(parser[name])
                    except ValueError as error:
                        log(f"{path}: [{name}] is ignored: {error}")

    def _take(self, section: configparser.SectionProxy) -> None:
        kind, _, name = section.name.partition(" ")
        if kind == "guests":
            groups = (f"/{group.strip('/')}/".replace("//", "/") for group in section.get("slices", "").split())
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
                raise ValueError("declare least and most, or values")
            unlimited = kind == "group" and section.getboolean("max", False)
            self.files[name] = WritableFile(name, values or range(least, most + 1), unlimited)
        else:
            raise ValueError("unknown section: use [knob PATH], [group FILE], [guests NAME], [destination NAME] with its uri, or [limits]")


def _is_roots(path: str) -> bool:
    # Only root may be able to write or replace the file. The path must have no links.
    status, above = os.stat(path), os.path.dirname(path)
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    return status.st_uid == 0 and (not status.st_mode & 0o022 or bool(sticky)) and (path == above or _is_roots(above))


def _user_ids(users: Iterable[str]) -> Iterator[int]:
    for user in users:
        with suppress(KeyError):
            yield int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
