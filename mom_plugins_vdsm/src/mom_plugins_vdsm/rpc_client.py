"""`mom-rpcclient`: calls one verb of mom's or MOM's RPC server, and prints the answer."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from typing import Final
from xml.parsers.expat import ExpatError
from xmlrpc.client import Error, Fault, ServerProxy, Transport

import click

from mom_core import printable
from mom_daemon import print_text
from mom_kvm import Address

_DEFAULT_ADDRESS: Final = "/run/vdsm/mom-vdsm.sock"
TIMEOUT_SECONDS: Final = 10.0
"""How long the client waits for an answer. mom answers immediately, but MOM may first finish its cycle."""

_TEXTS: Final = {"setPolicy": 0, "setNamedPolicy": 1}
"""Verbs that take the contents of a file, and the position of that parameter."""


class SocketTransport(Transport):
    """XML-RPC to a unix socket or a TCP port, with a timeout."""

    def __init__(self, address: Address, timeout: float = TIMEOUT_SECONDS) -> None:
        super().__init__(use_builtin_types=True)
        self._address, self._timeout = address, timeout

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        """Return a connection to the transport's address, and ignore `host`."""
        self.close()
        connection = http.client.HTTPConnection("localhost")
        self._connection = ("", connection)  # the base class's close() closes it
        if self._address.path:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(self._timeout)
            connection.sock.connect(self._address.path)
        else:
            connection.sock = socket.create_connection((self._address.host, self._address.port), self._timeout)
        return connection


_WHERE: Final = "PORT|PATH|HOST:PORT"
_LISTENS: Final = "Address of the daemon: its option `rpc-port`, or its setting `listen`."


def _address(context: click.Context, parameter: click.Parameter, value: str) -> Address:
    try:
        return Address.parse(value, "127.0.0.1")
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


@click.command("mom-rpcclient", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("-p", "--port", "address", metavar=_WHERE, default=_DEFAULT_ADDRESS, show_default=True, callback=_address, help=_LISTENS)
@click.argument("verb")
@click.argument("arguments", nargs=-1)
def rpc_client(address: Address, verb: str, arguments: tuple[str, ...]) -> None:
    """Call a verb of the XML-RPC server of mom or MOM, and print the answer: a string, or JSON.

    Verbs: ping, getStatistics, getActiveGuests, getPolicy, getNamedPolicies, setPolicy FILE, setNamedPolicy NAME [FILE] (without FILE, the
    policy is removed), resetPolicies, setVerbosity LEVEL. FILE may be - for standard input.

    Exit code 1: the server has refused the policy, or does not answer.
    """
    parameters: list[str | None] = list(arguments)
    if verb in _TEXTS:
        place = _TEXTS[verb]
        parameters[place : place + 1] = [_text(arguments[place]) if len(arguments) > place else None]
    try:
        with ServerProxy("http://localhost/RPC2", transport=SocketTransport(address), allow_none=True) as server:
            answer: object = getattr(server, verb)(*parameters)
    except (OSError, Error, ExpatError, http.client.HTTPException) as error:
        reason = error.faultString if isinstance(error, Fault) else getattr(error, "strerror", None) or str(error)
        raise click.ClickException(f"{address}: {printable(reason, 400)}") from None
    shown = answer if isinstance(answer, str) else json.dumps(answer, indent=2, sort_keys=True, ensure_ascii=False)
    print_text(shown.removesuffix("\n") + "\n")
    if answer is False:
        if "olic" in verb:
            click.echo("The daemon has refused the policy and changed nothing; its log has the reason.", err=True)
        sys.exit(1)


def _text(file: str) -> str:
    try:
        with click.open_file(file, encoding="utf-8") as opened:
            text: str = opened.read()
            return text
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from None


def main() -> None:
    """Run the script."""
    rpc_client(prog_name="mom-rpcclient")
