"""`mom fleet join`: writes this host's configuration and files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from mom_core import ConfigError, Document, MomError, load_config, replace_file
from mom_daemon import other_owner, print_prose
from mom_plugins_fleet.records import Invitation, read
from mom_plugins_fleet.verbs import server_setup

DEFAULT_CONFIG: Final = Path("/etc/mom/mom.yaml")
UNITS: Final = Path("/etc/systemd/system")

_NETWORK: Final = """\
# Written by `mom fleet join`: the fleet's servers are on other machines.
[Service]
RestrictAddressFamilies=AF_INET AF_INET6
IPAddressAllow=any
"""


@click.command("join")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-c", "--config", type=click.Path(path_type=Path), envvar="MOM_CONFIG", help="Configuration to change.")
@click.option("--no-restart", is_flag=True, help="Do not restart mom.")
def join_command(file: Path, config: Path | None, no_restart: bool) -> None:
    """Make this host a member of the fleet with the FILE that `mom fleet enroll` has made.

    The command writes this host's key and the fleet's CA certificate to the configuration's folder, and adds a section `fleet:`. If
    mom.service is running with this configuration, the command restarts it.
    """
    config = (config or DEFAULT_CONFIG).absolute()
    host = join(config, file)
    print_prose(f"{host} is a member of the fleet; its settings are in {config}. `mom doctor` checks whether the servers answer.", 2)
    if config != DEFAULT_CONFIG:
        print_prose(f"Now reload the mom that uses {config}.", 2)
        return
    why = "--no-restart was given" if no_restart else server_setup.systemd_does("daemon-reload", "try-restart mom")
    if why:
        print_prose(f"mom was not restarted ({why}). Run `systemctl daemon-reload && systemctl restart mom`.", 2)


def join(config: Path, file: Path) -> str:
    """Join a fleet with the file of `mom fleet enroll`. Return the host's name in the fleet. Raise `MomError` for unusable files."""
    try:
        invitation = read(Invitation, file.read_bytes())
    except OSError as error:
        raise MomError(f"{file} cannot be read: {error.strerror}", hint="copy the file that `mom fleet enroll` has made") from None
    key, ca = config.with_name("fleet.key"), config.with_name("fleet-ca.pem")
    settings = {"servers": [*invitation.servers], "host": invitation.host, "key": str(key), "operators": [*invitation.operators]}
    if invitation.ca:
        settings["ca"] = str(ca)
    text = with_fleet(config, settings)
    status = config.stat()
    owner = (status.st_uid, status.st_gid)
    try:
        if config == DEFAULT_CONFIG and UNITS.is_dir():
            drop_in = UNITS / "mom.service.d" / "fleet.conf"
            drop_in.parent.mkdir(exist_ok=True)
            replace_file(drop_in, _NETWORK, durable=True, mode=0o644)
        replace_file(key, invitation.credentials, durable=True, mode=0o600, owner=owner)
        if invitation.ca:
            replace_file(ca, invitation.ca, durable=True, mode=0o644, owner=owner)
        replace_file(config, text, durable=True, mode=status.st_mode & 0o777, owner=owner)  # last: it names the other files
        reader = other_owner((loaded := load_config(config)).state_directory, loaded.run_directory)
        if reader is not None:  # mom runs as another user than root
            os.chown(key, -1, reader.groups[0])
            key.chmod(0o640)
    except OSError as error:
        raise MomError(f"cannot write {error.filename or config.parent}: {error.strerror}", hint="run this command as root") from None
    return invitation.host


def with_fleet(config: Path, settings: Mapping[str, object]) -> str:
    """Return the configuration's text with a section for the fleet plugin. Raise `MomError` if that is impossible."""
    load_config(config)  # reports existing errors first
    text = config.read_text("utf-8-sig")
    document, lines = Document.parse(text, str(config)), text.splitlines()
    top = document.value if isinstance(document.value, Mapping) else {}
    plugins = top.get("plugins")
    if isinstance(plugins, Mapping) and "fleet" in plugins:
        if plugins["fleet"] == settings:  # the host joins again with a new key
            return text
        line = document.keys["plugins", "fleet"].line
        raise MomError(f"{config}:{line}: this host is already in a fleet, with other settings", hint="remove `fleet:` first")
    if isinstance(plugins, Mapping) and plugins:
        indent = " " * (document.keys["plugins", next(iter(plugins))].column - 1)
        own = [f"{indent}fleet:", *(f"{indent}{indent or '  '}{name}: {json.dumps(value)}" for name, value in settings.items())]
        at = document.keys["plugins",].line
        text = "\n".join([*lines[:at], *own, *lines[at:], ""])
        expected = {**top, "plugins": {**plugins, "fleet": dict(settings)}}
        with suppress(ConfigError):  # with plugins on one line, the result is not valid YAML
            if Document.parse(text, str(config)).value == expected:
                return text
    raise MomError(
        f"cannot add `fleet:` to {config}: its section `plugins` must list one plugin per line", hint="`mom config init` writes such a file"
    )
