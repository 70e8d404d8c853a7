"""First server of a fleet: keys, certificates, configuration, unit. Existing files stay."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mom_core import MomError, is_there, printable, replace_file
from mom_plugins_fleet.accounts import USER, FleetRoot, new_seed, resolver, write_secret
from mom_plugins_fleet.records import a_server
from mom_plugins_fleet.signatures import Signer
from mom_plugins_fleet.verbs.home import CA, CREDENTIALS, KEY, OPERATORS, ROOT, SERVERS

ACCOUNTS, UNIT = "accounts.conf", "mom-nats.service"

STORE: Final = Path("/var/lib/mom-nats")

_NATS: Final = "nats"

_IP: Final = re.compile(r"[0-9.]+|.*:.*")

_CONFIG: Final = """\
# Written once by `mom fleet init`: change it as you like. docs/fleet.md says what several servers need in addition.
listen: "0.0.0.0:{port}"
tls {{ cert_file: "{home}/server.pem", key_file: "{home}/server-key.pem" }}
jetstream {{ store_dir: "{store}" }}
{resolver}include "accounts.conf"
"""

_SERVICE: Final = """\
[Unit]
Description=NATS server of a mom fleet
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={program} -c {home}/nats.conf
User={user}
StateDirectory=mom-nats
StateDirectoryMode=0750
ReadWritePaths=-{store}
Restart=always
LimitNOFILE=65536
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes

[Install]
WantedBy=multi-user.target
"""


def make_server(home: Path, names: Sequence[str]) -> None:
    """Make the first server's missing files.

    :param names: host names of the server, with a port unless 4222
    """
    if unnamed := next((name for name in names if not _is_name(name)), None):
        raise MomError(f"{printable(unnamed)} is not a server name", hint="use the server's host name, such as nats1.example.org")
    urls = [f"tls://{name}" for name in names]
    program = shutil.which("nats-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise MomError("nats-server is not installed", hint="apt install nats-server")
    try:
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        made = home / SERVERS
        if not is_there(made):  # the root key may be kept elsewhere; do not replace it
            _make_keys(home)
        elif (other_urls := made.read_text().split()) != urls:
            raise MomError(f"{home} belongs to a fleet with other servers: {' '.join(other_urls)}", hint="use another folder: --home DIR")
        _make_certificates(home, [urlsplit(url).hostname or "" for url in urls])
        parts = {"home": home, "store": STORE, "program": program, "user": _NATS, "resolver": resolver(STORE / "accounts")}
        for name, text in (("nats.conf", _CONFIG), (UNIT, _SERVICE)):
            if not is_there(home / name):
                replace_file(home / name, text.format(port=urlsplit(urls[0]).port or 4222, **parts), durable=True, mode=0o644)
        replace_file(made, "\n".join(urls), durable=True, mode=0o644)  # last: marks the folder as complete
    except OSError as error:
        raise MomError(
            f"cannot create the fleet's folder {home}: {error.strerror}", hint="run this command as root, or use another folder: --home DIR"
        ) from None


def _is_name(name: str) -> bool:
    try:
        return re.fullmatch(r"[A-Za-z0-9.:-]+", urlsplit(a_server(f"tls://{name}")).hostname or "") is not None
    except ValueError:
        return False


def write_accounts(root: FleetRoot) -> Path:
    """Write the accounts to the root key's folder."""
    path = root.path.with_name(ACCOUNTS)
    replace_file(path, root.server_config(), durable=True, mode=0o644)
    return path


def make_key(folder: Path, root: FleetRoot) -> str:
    """Write the new key and credentials of an operator or coordinator. Return the public key."""
    seed = new_seed(USER)
    key = Signer(seed).public
    write_secret(folder / CREDENTIALS, root.operator(key).encode())
    write_secret(folder / KEY, seed.encode())
    return key


def _make_keys(home: Path) -> None:
    if not is_there(home / ROOT):
        FleetRoot.make(home / ROOT)
    if not is_there(home / KEY):
        replace_file(home / OPERATORS, make_key(home, FleetRoot(home / ROOT)), durable=True, mode=0o644)
    write_accounts(FleetRoot(home / ROOT))


def _make_certificates(home: Path, names: Sequence[str]) -> None:
    _make_certificate(home / CA, 7300, ["keyUsage=critical,keyCertSign,cRLSign"])
    named = ",".join(f"{'IP' if _IP.fullmatch(name) else 'DNS'}:{name}" for name in names)
    by = ["-CA", str(home / CA), "-CAkey", str(home / "ca-key.pem")]
    server = home / "server.pem"
    _make_certificate(server, 3650, [f"subjectAltName={named}", "basicConstraints=critical,CA:FALSE"], by)
    if os.geteuid() == 0:
        try:
            shutil.chown(server.with_name("server-key.pem"), _NATS)
        except LookupError:
            raise MomError(f"the user {_NATS}, which runs nats-server, does not exist", hint=f"useradd --system {_NATS}") from None


def _make_certificate(path: Path, days: int, extensions: Sequence[str], by: Sequence[str] = ()) -> None:
    if is_there(path):
        return
    key, new = path.with_name(f"{path.stem}-key.pem"), path.with_name(f".{path.stem}.new")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=mom fleet"]
    command += ["-days", str(days), *by, "-keyout", str(key), "-out", str(new)]
    for extension in extensions:
        command += ["-addext", extension]
    _run(command)
    new.replace(path)


def systemd_does(*commands: str) -> str:
    """Run systemctl commands. Return the error, or an empty string."""
    try:
        for command in commands:
            _run(["systemctl", *command.split()])
    except MomError as error:
        return error.message
    return ""


def _run(command: Sequence[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MomError(f"{command[0]} cannot be run: {error}", hint=f"apt install {command[0]}") from None
    if result.returncode:
        raise MomError(f"{command[0]}: {printable(' '.join(result.stderr.split()) or f'exit code {result.returncode}', 400)}")
