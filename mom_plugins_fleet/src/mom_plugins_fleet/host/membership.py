"""Joining a fleet: writes this host's configuration and files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mom_core import Config, ConfigError, Document, MomError, load_config, printable, replace_file
from mom_daemon import other_owner
from mom_plugins_fleet.access import Access
from mom_plugins_fleet.invitation import Token
from mom_plugins_fleet.link import LinkError, Store, ask
from mom_plugins_fleet.subjects import INVITATIONS, JOINING
from mom_plugins_fleet.verbs.where import LOG

DEFAULT_CONFIG: Final = Path("/etc/mom/mom.yaml")
UNITS: Final = Path("/etc/systemd/system")

_NETWORK: Final = """\
# Written by `mom fleet join`: the fleet's servers are on other machines.
[Service]
RestrictAddressFamilies=AF_INET AF_INET6
IPAddressAllow=any
"""


def join(config: Path, address: str, token: Token) -> None:
    """Join a fleet. Check the configuration before the token is used. Raise `MomError` for an unusable token or file."""
    server = address if "://" in address else f"tls://{address}"
    if not server.startswith("tls://"):
        raise MomError(f"{printable(address)} is not a server address", hint="use the server's host name, such as nats1.example.org")
    named: dict[str, Any] = {"servers": [server], "host": token.host, "key": str(config.with_name("fleet.key"))}
    with_fleet(config, named)
    if not os.access(config.parent, os.W_OK):
        raise MomError(f"{config.parent} cannot be written", hint="run this command as root")
    access = Access([server], None, token.credentials, token.certificate)
    try:
        data = ask(access, JOINING, LOG, lambda store: _taken(store, token))
    except LinkError as error:
        if time.time() <= token.ends:
            raise
        over = f"according to this host's clock the token expired at {time.ctime(token.ends)}: {_another(token)}"
        raise MomError(error.message, hint=over) from None
    invitation = token.opened(data)
    files = {config.with_name("fleet.key"): (invitation.key, 0o600)}
    named["servers"] = list(dict.fromkeys([server, *invitation.servers]))
    named["operators"] = list(invitation.operators)
    if invitation.ca:
        files[config.with_name("fleet-ca.pem")] = (invitation.ca, 0o644)
        named["ca"] = str(config.with_name("fleet-ca.pem"))
    status = config.stat()
    files[config] = (with_fleet(config, named), status.st_mode & 0o777)  # last, because the configuration names the other files
    if config == DEFAULT_CONFIG and UNITS.is_dir():
        files = {UNITS / "mom.service.d" / "fleet.conf": (_NETWORK, 0o644), **files}
    path = config
    try:
        for path, (text, mode) in files.items():
            path.parent.mkdir(exist_ok=True)
            owner = (status.st_uid, status.st_gid) if path.parent == config.parent else None
            replace_file(path, text, durable=True, mode=mode, owner=owner)
        _let_read(config.with_name("fleet.key"), load_config(config))
    except OSError as error:
        where = error.filename or path  # the error of a full disk names no file
        raise MomError(f"{where} cannot be written: {error.strerror}", hint=f"the token is used up: {_another(token)}") from None


def _let_read(key: Path, config: Config) -> None:
    # mom may run as another user than root.
    reader = other_owner(config.state_directory, config.run_directory)
    if reader is not None:
        os.chown(key, -1, reader.groups[0])
        key.chmod(0o640)


async def _taken(store: Store, token: Token) -> bytes:
    data = await store.take(INVITATIONS, token.host)
    if data is None:
        raise MomError("this token was already used, or has expired", hint=_another(token))
    return data


def _another(token: Token) -> str:
    return f"make a new token: `mom fleet enroll {token.host} --group GROUP --token`"


def with_fleet(config: Path, settings: Mapping[str, object]) -> str:
    """Return the configuration's text with a section for the fleet plugin. Raise `MomError` if that is impossible."""
    load_config(config)  # reports existing errors first
    text = config.read_text("utf-8-sig")
    document, lines = Document.parse(text, str(config)), text.splitlines()
    top = document.value if isinstance(document.value, Mapping) else {}
    plugins = top.get("plugins")
    if isinstance(plugins, Mapping) and "fleet" in plugins:
        line = document.keys["plugins", "fleet"].line
        raise MomError(f"{config}:{line}: this host is already in a fleet", hint="to join another fleet, remove `fleet:` first")
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
