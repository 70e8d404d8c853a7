"""Hands original values to mom-helper, for controls that mom changed as root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mom_core import Config, MomError, Scope, is_there, untrusted
from mom_core.ledger import FILE, Ledger
from mom_daemon.plugins.declared import declarations_of
from mom_helper.before import Before


def hand_over(config: Config, folder: Path) -> Iterator[tuple[str, int]]:
    """Write the ledger's original values of host files to the helper's folder. Yield each file's path, and its original value.

    :raises MomError: another user could have written the ledger
    """
    ledger = config.state_directory / FILE
    if not is_there(ledger):
        return
    if reason := untrusted(ledger):
        raise MomError(f"{ledger} was not handed to mom-helper: {reason}", hint="a ledger of a mom that ran as root belongs to root")
    entries, controls = Ledger.open(config.state_directory, look=True).entries.values(), declarations_of(config).controls
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        memory = Before(str(folder))
        for entry in entries:
            control = controls.get(entry.control)
            if control is not None and control.scope is Scope.HOST and control.file and type(entry.before) is int:
                path = control.file if Path(control.file).is_relative_to(config.root) else str(config.root / control.file.lstrip("/"))
                memory.take_over(path, entry.before)
                yield path, entry.before
    except OSError as error:
        raise MomError(f"{error.filename or folder}: {error.strerror}", hint="only mom's package runs this command, as root") from error
