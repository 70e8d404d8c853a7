"""`mom` without arguments: mom's state, and the next commands. It needs no daemon or plugin, omits unreadable facts and never fails."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from mom_core import MomError, is_there
from mom_core.config.document import Document, KeyPath, Place, read_document
from mom_core.files import DEFAULT_CONFIG
from mom_core.ledger import changes_left
from mom_core.lock import holder
from mom_daemon import become_owner, print_prose

if TYPE_CHECKING:
    from mom_core import Config

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class HostSight:
    """State of mom on this host; None means unknown.

    `observes` says where to set `mode: enforce`; empty if mom acts or has no configuration. `unit` is true if systemd has a unit for mom.
    `left` counts the changes that were not undone.
    """

    kvm: bool = False
    file: Path = DEFAULT_CONFIG
    configured: bool = False
    observes: str = ""
    unit: bool = False
    pid: int = 0
    left: int | None = 0


def look_around(*, demo: bool) -> None:
    """Print mom's state on this host, and the next commands to type.

    :param demo: whether `mom demo` is installed
    """
    root = os.geteuid() == 0  # before this process becomes the owner of mom's folders
    sight = look(Path("/"), Path(os.environ.get("MOM_CONFIG") or DEFAULT_CONFIG).absolute())
    steps = list(next_steps(sight, root=root, demo=demo))
    print_prose("mom manages memory overcommitment on KVM hosts.")
    print_prose("/dev/kvm exists." if sight.kvm else "There is no /dev/kvm: guests, if any, are emulated.")
    configured = f"{sight.file}{' makes mom observe: mom changes nothing' if sight.observes else ''}"
    state = f"mom runs as process {sight.pid}" if sight.pid else "mom is not running"
    print_prose(f"{state}; {configured if sight.configured else f'there is no {sight.file} yet'}.", 2)
    print_prose("\nWhat to type next:")
    width = max(len(command) for command, _ in steps)
    for command, effect in steps:
        print_prose(f"  {command:<{width}}   {effect}", width + 5)
    print_prose("\nmom --help lists all subcommands.")


def how_to_start(config_path: str | None, root: Path = Path("/")) -> str:
    """Return the command that starts mom: systemctl if mom's unit uses this configuration."""
    if config_path in {None, str(DEFAULT_CONFIG)} and _has_unit(root) and _exists(root / "run/systemd/system"):
        return "systemctl start mom"
    return "mom run" if config_path is None else f"mom run -c {shlex.quote(config_path)}"


def _where_to_act(file: str, places: Mapping[KeyPath, Place]) -> str:
    place = places.get(("mode",))
    return f"line {place.line} of {file}" if place else file


def how_to_act(config: Config) -> str:
    """Return instructions to make mom act instead of observe."""
    where = _where_to_act(config.file or "its file", config.places)
    return f"to have mom act: write `mode: enforce` in {where}, then: systemctl reload mom"


def _has_unit(root: Path) -> bool:
    return any(_exists(root / folder / "mom.service") for folder in _UNITS)


def look(root: Path, file: Path = DEFAULT_CONFIG) -> HostSight:
    """Examine the host whose files are below `root`."""
    config = root / file.relative_to("/")
    document = _known(lambda: read_document(config)) or Document(str(config))
    top: Mapping[str, object] = document.value if isinstance(document.value, Mapping) else {}
    state, run = (
        root / str(top.get(f"{kind}_directory", usual)).lstrip("/") for kind, usual in (("state", "var/lib/mom"), ("run", "run/mom"))
    )
    with suppress(MomError):
        become_owner(state, run)
    return HostSight(
        kvm=_exists(root / "dev/kvm"),
        file=file,
        configured=may_exist(config),
        observes=_where_to_act(str(file), document.keys) if top and top.get("mode") != "enforce" else "",
        unit=file == DEFAULT_CONFIG and _has_unit(root),  # the unit uses the default configuration
        pid=_known(lambda: holder(run)) or 0,
        left=_known(lambda: changes_left(state)),
    )


def next_steps(sight: HostSight, *, root: bool, demo: bool = True) -> Iterator[tuple[str, str]]:
    """Yield the next commands with their effects."""
    sudo = "" if root else "sudo "
    mom = f"{sudo}mom"
    acts = f"; mom changes nothing until `mode: enforce` is in {sight.observes}" if sight.observes else ""
    if sight.pid:
        yield f"{mom} status", "the host and mom's last cycle"
        yield f"{mom} guests", "all guests with their memory"
        if acts:
            yield f"{sudo}systemctl reload mom" if sight.unit else f"{sudo}kill -HUP {sight.pid}", f"applies the configuration{acts}"
        yield f"{mom} doctor", "lists faults of this host, each with its fix"
        return
    if sight.left:
        yield f"{mom} restore", f"undoes {sight.left} changes that an earlier run of mom left"
    if sight.left is None:
        yield f"{mom} status", "says why changes of an earlier run of mom are unknown"
    if not sight.kvm and demo:
        yield "mom demo", "shows a simulated host under memory pressure; changes nothing on this host"
    if not sight.configured:
        option = "" if sight.file == DEFAULT_CONFIG else f" -o {sight.file}"
        yield f"{mom} config init{option}", f"writes a commented {sight.file} for this host"
    yield f"{mom} doctor", "lists faults of this host, each with its fix"
    yield f"{mom} run --observe", "decides and reports until Ctrl-C; changes nothing"
    if sight.unit:
        effect = f"manages this host from now on{acts}; systemctl disable --now mom restores everything"
        yield f"{sudo}systemctl enable --now mom", effect
    else:
        yield f"{mom} run", f"manages this host until Ctrl-C, which restores everything{acts}; for a service, see docs/install.md"


_UNITS: Final = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")


def _known(read: Callable[[], Found]) -> Found | None:
    with suppress(MomError, OSError, ValueError):
        return read()
    return None


def _exists(path: Path) -> bool:
    return bool(_known(path.exists))


def may_exist(path: Path) -> bool:
    """Return whether a path may exist; True in an unreadable folder."""
    try:
        return is_there(path)
    except OSError:
        return True
