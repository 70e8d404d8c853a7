"""Client of the control socket, and decorators for subcommands that use it."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast
from urllib.parse import quote

import click

from mom_core import MomError, load_config
from mom_daemon import NoSuchGuest, NotRunning, as_caller, config_option, json_option, print_prose
from mom_kvm import PolicyProblem, PolicyState
from mom_plugins_http.settings import SOCKET, HttpSettings

if TYPE_CHECKING:
    from mom_daemon.report_models import ReportDocument

Function = TypeVar("Function", bound=Callable[..., Any])

_NO_SOCKET: Final = "start mom with the http plugin enabled; if mom runs without the plugin, run: systemctl reload mom"

ANSWER_SECONDS: Final = 30.0
"""A change fails after this many seconds of silence. The limit allows for earlier changes and compiling policies."""

READ_SECONDS: Final = 10.0
"""A query fails after this many seconds of silence."""

SILENCE_SECONDS: Final = 60.0
"""A stream of events fails after this many seconds of silence. mom sends a keep-alive every 15 s."""


def coded(name: str) -> str:
    """Return a name encoded for a URL's path. Raise `ApiMisusedError` if the name is empty."""
    if not name:
        raise ApiMisusedError(400, "the name is empty", "")
    return quote(name, safe="", errors="surrogateescape")


class UnixConnection(http.client.HTTPConnection):
    """HTTP connection through a unix socket."""

    timeout: float

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class ApiRefusedError(MomError):
    """Error: mom refuses a request. `status` is the answer's HTTP status."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class ApiMisusedError(ApiRefusedError, ValueError):
    """Error: mom refuses an invalid request."""


class Client:
    """Client of one socket, a `RunningMom`. A request that changes nothing fails after `reading` seconds of silence."""

    def __init__(self, path: Path, reading: float = READ_SECONDS) -> None:
        self.path = path
        self.reading = reading

    @classmethod
    def configured(cls, config_path: str | None, reading: float = READ_SECONDS) -> Client:
        """Return a client of the configured mom."""
        config = load_config(config_path)
        for plugin in config.plugins.values():
            if isinstance(plugin.settings, HttpSettings):
                return cls(plugin.settings.socket or config.run_directory / SOCKET, reading)
        raise MomError(
            "the configuration does not enable the http plugin; without the plugin, commands cannot reach a running mom",
            hint="add `http: {}` to `plugins`, then systemctl reload mom",
        )

    @property
    def where(self) -> str:
        """Socket's path."""
        return str(self.path)

    def explanation(self, guest: str) -> Mapping[str, Any]:
        """Return the explanation of a guest's size."""
        return cast("Mapping[str, Any]", self.get(f"/v1/guests/{coded(guest)}/explanation"))

    def configuration(self) -> Mapping[str, Any]:
        """Return the settings in force."""
        return cast("Mapping[str, Any]", self.get("/v1/configuration"))

    def policies(self) -> Mapping[str, PolicyState.Text]:
        """Return the policies in force, keyed by name."""
        return {policy["name"]: PolicyState.Text(policy["text"], policy["origin"]) for policy in self.get("/v1/policies")["items"]}

    def report(self) -> ReportDocument:
        """Return the newest cycle."""
        return cast("ReportDocument", self.get("/v1/report"))

    def get(self, path: str) -> Any:
        """Return the JSON content that `GET` returns for this path."""
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None, *, seen: str = "") -> Any:
        """Send a request, and return the answer's JSON content.

        :param seen: entity tag of the policies' version that the request changes
        :raises ApiRefusedError: mom refuses the request
        :raises PolicyState.Refused: mom refuses the policies
        :raises NotRunning: mom is not running
        """
        headers = {"accept": "application/json", **({"if-match": seen} if seen else {})}
        if body is not None:
            headers["content-type"] = "application/json"
        with self._connection(self.reading if method == "GET" else ANSWER_SECONDS) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            return json.loads(_answer(connection).read())

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the name and content of each event. End when mom ends the stream, and raise `MomError` if the connection breaks."""
        with self._connection(self.reading) as connection:
            connection.request("GET", "/v1/events", headers={"accept": "text/event-stream"})
            sock = connection.sock
            response = _answer(connection)
            connection.timeout = SILENCE_SECONDS
            sock.settimeout(SILENCE_SECONDS)
            name = ""
            while line := response.readline():
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)

    @contextmanager
    def _connection(self, seconds: float) -> Iterator[UnixConnection]:
        connection = UnixConnection(self.path, seconds)
        try:
            yield connection
        except ApiMisusedError:  # a ValueError, too
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._failure(error, connection.timeout) from error
        finally:
            connection.close()

    def _failure(self, error: Exception, seconds: float) -> MomError:
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return NotRunning(f"no process serves {self.path}", hint=_NO_SOCKET)
        if isinstance(error, TimeoutError):
            hint = "mom or the host has hung, or mom is suspended; `mom status` shows the last known state"
            return MomError(f"mom did not answer on {self.path} within {seconds:g} s", hint=hint)
        if isinstance(error, PermissionError):
            hint = "run this as root, or as a member of the socket's group"
            return MomError(f"this user is not allowed to connect to {self.path}", hint=hint)
        return MomError(f"unexpected answer from {self.path}: {error or type(error).__name__}", hint="see mom's log")


def _answer(connection: UnixConnection) -> http.client.HTTPResponse:
    response = connection.getresponse()
    if response.status >= 400:
        raise refusal(response.status, response.read())
    return response


def refusal(status: int, body: bytes) -> MomError:
    """Return the error that a problem document describes."""
    try:
        content = json.loads(body)
    except ValueError:
        content = {}
    problem = content if isinstance(content, dict) else {}
    message, hint = str(problem.get("detail", f"mom answers with {status}")), str(problem.get("hint", ""))
    if status == 422 and problem.get("problems"):
        return PolicyState.Refused([PolicyProblem(**each) for each in problem["problems"]], hint=hint or message)
    if status == 404 and message.startswith("there is no guest"):
        return NoSuchGuest(message, hint=hint.partition("; GET ")[0])
    return (ApiMisusedError if status == 400 else ApiRefusedError)(status, message, hint)


class Shown(NamedTuple):
    """Answer of a subcommand as JSON, and as lines for people. If `good` is False, the exit code is 1."""

    answer: Any
    lines: Iterable[str]
    good: bool = True


def common_options(function: Function) -> Function:
    """Add the common options of subcommands that query a running mom."""
    return as_caller(config_option(json_option(function)))


def running_verb(function: Callable[..., Shown]) -> Callable[..., None]:
    """Return a subcommand that calls `function` with a client of the configured mom, and prints the answer as JSON or lines."""

    @common_options
    @wraps(function)
    def verb(*args: Any, as_json: bool, config_path: str | None, **given: Any) -> None:
        shown = function(Client.configured(config_path), *args, **given)
        if as_json:
            click.echo(json.dumps(shown.answer))
        else:
            for line in shown.lines:
                print_prose(line, 4)
        if not shown.good:
            sys.exit(1)

    return verb
