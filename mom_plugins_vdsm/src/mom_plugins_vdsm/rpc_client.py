"""`mom-rpcclient`: calls one verb of mom's RPC server, or of an old MOM's, and prints the answer."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple
from xml.parsers.expat import ExpatError
from xmlrpc.client import Error, Fault, ProtocolError, ServerProxy, Transport

import click

from mom_core import printable
from mom_daemon import print_text
from mom_toolkit import Address

DEFAULT_ADDRESS: Final = "/run/vdsm/mom-vdsm.sock"
TIMEOUT_SECONDS: Final = 10.0
"""mom answers at once; an old MOM may be at the end of its cycle."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.sock.connect(self._path)


class RpcTransport(Transport):
    """XML-RPC to a unix socket, or to a TCP port with a time limit."""

    def __init__(self, address: Address) -> None:
        super().__init__(use_builtin_types=True)
        self._address = address

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        """The way to the server, whatever the URL says."""
        self.close()
        connection = (
            _UnixConnection(self._address.path)
            if self._address.path
            else http.client.HTTPConnection(self._address.host, self._address.port, timeout=TIMEOUT_SECONDS)
        )
        self._connection = ("", connection)  # what close() of the base class closes
        return connection


def connected(address: Address) -> ServerProxy:
    """A proxy for the server at an address."""
    return ServerProxy("http://localhost/RPC2", transport=RpcTransport(address), allow_none=True)


class ClientVerb(NamedTuple):
    """A verb on the command line: its arguments, and what it does."""

    arguments: str
    help: str


VERBS: Final = {
    "ping": ClientVerb("", "Is mom there?"),
    "getStatistics": ClientVerb("", "The newest statistics of the host and of all guests."),
    "getActiveGuests": ClientVerb("", "The names of the guests."),
    "getPolicy": ClientVerb("", "All policies as one text."),
    "getNamedPolicies": ClientVerb("", "All policies by name."),
    "setPolicy": ClientVerb("FILE", "Replace all policies by the one in FILE (- is standard input)."),
    "setNamedPolicy": ClientVerb("NAME [FILE]", "Set one policy; without FILE, remove it."),
    "resetPolicies": ClientVerb("", "Go back to the policies in the daemon's files."),
    "setVerbosity": ClientVerb("LEVEL", "How much is logged: critical, error, warn, info, debug, or 1 to 5."),
}

_EPILOG: Final = "\b\nVerbs:\n" + "\n".join(f"  {f'{name} {verb.arguments}':<26} {verb.help}" for name, verb in VERBS.items())


def _address(context: click.Context, parameter: click.Parameter, value: str) -> Address:
    try:
        return Address.parse(value, "127.0.0.1")
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


@click.command("mom-rpcclient", epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
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
        with connected(address) as server:
            answer: object = getattr(server, name)(*parameters)
    except Fault as fault:
        raise click.ClickException(f"the daemon refuses: {printable(fault.faultString, 400)}") from None
    except ProtocolError as error:
        raise click.ClickException(f"{address} answers with HTTP {error.errcode} {printable(error.errmsg)}") from None
    except TimeoutError:
        raise click.ClickException(f"no mom answers on {address} within {TIMEOUT_SECONDS:g} s") from None
    except OSError as error:
        raise click.ClickException(f"{address}: {error.strerror or error}") from None
    except (Error, ExpatError, http.client.HTTPException) as error:
        raise click.ClickException(f"what answers on {address} is no XML-RPC server: {printable(str(error), 200)}") from None
    plain = isinstance(answer, str) and not as_json
    shown = str(answer) if plain else json.dumps(answer, indent=2, sort_keys=True, ensure_ascii=False)
    print_text(shown if shown.endswith("\n") else shown + "\n")
    if answer is False:
        if "olic" in name:
            click.echo("The policy is refused, and nothing has changed; the daemon's log says why.", err=True)
        sys.exit(1)


def _parameters(name: str, arguments: Sequence[str]) -> list[str | None]:
    """What the verb is called with: files are read here."""
    wanted = VERBS[name].arguments.split()
    least = sum(not kind.startswith("[") for kind in wanted)
    if not least <= len(arguments) <= len(wanted):
        raise click.UsageError(f"write: mom-rpcclient {name} {VERBS[name].arguments}".rstrip())
    parameters: list[str | None] = [
        _text(given) if kind.strip("[]") == "FILE" else given for kind, given in zip(wanted, arguments, strict=False)
    ]
    return parameters + [None] * (len(wanted) - len(parameters))


def _text(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise click.UsageError(f"{file} cannot be read: {reason}") from None


def main() -> None:
    """The script's entry."""
    rpc_client(prog_name="mom-rpcclient")
