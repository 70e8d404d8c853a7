"""`mom-rpcclient`: calls one verb of mom's RPC server, or of an old MOM's, and prints the answer."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from xml.parsers.expat import ExpatError
from xmlrpc.client import Error, Fault, ProtocolError, ServerProxy, Transport

import click

from mom_core import printable
from mom_daemon import print_text
from mom_toolkit import Address

DEFAULT_ADDRESS: Final = "/run/vdsm/mom-vdsm.sock"
TIMEOUT_SECONDS: Final = 10.0
"""mom answers at once; an old MOM may be at the end of its cycle."""

VERBS: Final = {
    "ping": "",
    "getStatistics": "",
    "getActiveGuests": "",
    "getPolicy": "",
    "getNamedPolicies": "",
    "setPolicy": "FILE",
    "setNamedPolicy": "NAME [FILE]",
    "resetPolicies": "",
    "setVerbosity": "LEVEL",
}
"""The verbs, each with its arguments."""


class _Transport(Transport):
    """XML-RPC to a unix socket, or to a TCP port, with a time limit."""

    def __init__(self, address: Address) -> None:
        super().__init__(use_builtin_types=True)
        self._address = address

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        """The way to the server, whatever the URL says."""
        self.close()
        connection = http.client.HTTPConnection("localhost")
        self._connection = ("", connection)  # what close() of the base class closes
        if self._address.path:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(TIMEOUT_SECONDS)
            connection.sock.connect(self._address.path)
        else:
            connection.sock = socket.create_connection((self._address.host, self._address.port), TIMEOUT_SECONDS)
        return connection


def _address(context: click.Context, parameter: click.Parameter, value: str) -> Address:
    try:
        return Address.parse(value, "127.0.0.1")
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


@click.command(
    "mom-rpcclient",
    epilog=f"Verbs: {', '.join(f'{name} {arguments}'.rstrip() for name, arguments in VERBS.items())}. FILE may be - for standard input; "
    "setNamedPolicy without FILE removes the policy.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "-p",
    "--port",
    "address",
    metavar="PORT|PATH|HOST:PORT",
    default=DEFAULT_ADDRESS,
    show_default=True,
    callback=_address,
    help="Where the daemon listens, as its rpc-port or `listen` says.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every answer as JSON, texts too.")
@click.argument("verb")
@click.argument("arguments", nargs=-1)
def rpc_client(address: Address, as_json: bool, verb: str, arguments: tuple[str, ...]) -> None:
    """Call a verb of a mom that serves XML-RPC, such as the one that runs beside vdsm.

    Exit code 1: the answer is no (a policy is refused), or mom does not answer.
    """
    name = {known.lower(): known for known in VERBS}.get(verb.replace("-", "").lower())
    if name is None:
        raise click.UsageError(f"there is no verb {verb!r}; there are {', '.join(VERBS)}")
    parameters = _parameters(name, arguments)
    try:
        with ServerProxy("http://localhost/RPC2", transport=_Transport(address), allow_none=True) as server:
            answer: object = getattr(server, name)(*parameters)
    except Fault as fault:
        raise click.ClickException(f"the daemon refuses: {printable(fault.faultString, 400)}") from None
    except ProtocolError as error:
        raise click.ClickException(f"{address} answers with HTTP {error.errcode} {printable(error.errmsg)}") from None
    except OSError as error:
        raise click.ClickException(f"{address}: {error.strerror or error}") from None
    except (Error, ExpatError, http.client.HTTPException) as error:
        raise click.ClickException(f"what answers on {address} is no XML-RPC server: {printable(str(error), 200)}") from None
    plain = isinstance(answer, str) and not as_json
    shown = str(answer) if plain else json.dumps(answer, indent=2, sort_keys=True, ensure_ascii=False)
    print_text(shown.removesuffix("\n") + "\n")
    if answer is False:
        if "olic" in name:
            click.echo("The policy is refused, and nothing has changed; the daemon's log says why.", err=True)
        sys.exit(1)


def _parameters(name: str, arguments: Sequence[str]) -> list[str | None]:
    """The parameters of the verb: files are read here."""
    wanted = VERBS[name].split()
    least = sum(not kind.startswith("[") for kind in wanted)
    if not least <= len(arguments) <= len(wanted):
        raise click.UsageError(f"write: mom-rpcclient {name} {VERBS[name]}".rstrip())
    given = [_text(argument) if kind.strip("[]") == "FILE" else argument for kind, argument in zip(wanted, arguments, strict=False)]
    return given + [None] * (len(wanted) - len(given))


def _text(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from None


def main() -> None:
    """The script's entry."""
    rpc_client(prog_name="mom-rpcclient")
