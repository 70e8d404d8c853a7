"""Client of the control socket, with only the standard library."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from mom_core import MomError, load_config
from mom_daemon import NoSuchGuest, NotRunning
from mom_kvm import PeerCredentials, PolicyProblem, PolicyRefused, ProcessStat

CONNECT_SECONDS: Final = 5.0

_NO_SOCKET: Final = "start mom with the http plugin enabled; if mom runs without the plugin, run: systemctl reload mom"

_AGAIN_SECONDS: Final = 0.02

ANSWER_SECONDS: Final = 30.0
"""A change fails after this many seconds of silence. The limit allows for earlier changes and compiling policies."""

READ_SECONDS: Final = 10.0
"""A query fails after this many seconds of silence."""

_LARGEST_ANSWER: Final = 256 << 20


def coded(name: str) -> str:
    """Return a name encoded for a URL's path. Raise `ApiMisusedError` if the name is empty."""
    if not name:
        raise ApiMisusedError(400, "the name is empty", "")
    return quote(name, safe="", errors="surrogateescape")


class UnixConnection(http.client.HTTPConnection):
    """HTTP connection through a unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        until = time.monotonic() + CONNECT_SECONDS
        while True:
            try:
                self.sock.connect(str(self.path))
            except BlockingIOError:  # the kernel's queue of connections is full
                if time.monotonic() > until:
                    raise
                time.sleep(_AGAIN_SECONDS)
            else:
                return


class ApiRefusedError(MomError):
    """Error: mom refuses a request. `status` is the answer's HTTP status."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class ApiMisusedError(ApiRefusedError, ValueError):
    """Error: mom refuses an invalid request."""


class Client:
    """Client of one socket. A request that changes nothing fails after `reading` seconds of silence."""

    def __init__(self, path: Path, reading: float = READ_SECONDS) -> None:
        self.path = path
        self.reading = reading

    @classmethod
    def configured(cls, config_path: str | None, reading: float = READ_SECONDS) -> Client:
        """Return a client of the configured mom."""
        from mom_plugins_http.settings import SOCKET, HttpSettings

        config = load_config(config_path)
        for plugin in config.plugins.values():
            if isinstance(plugin.settings, HttpSettings):
                return cls(plugin.settings.socket or config.run_directory / SOCKET, reading)
        raise MomError(
            "the configuration does not enable the http plugin; without the plugin, commands cannot reach a running mom",
            hint="add `http: {}` to `plugins`, then systemctl reload mom",
        )

    def get(self, path: str) -> Any:
        """Return the JSON content that `GET` returns for this path."""
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None, *, seen: str = "") -> Any:
        """Send a request, and return the answer's JSON content.

        :param seen: entity tag of the policies' version that the request changes
        :raises ApiRefusedError: mom refuses the request
        :raises PolicyRefused: mom refuses the policies
        :raises NotRunning: mom is not running
        """
        headers = {"accept": "application/json", **({"if-match": seen} if seen else {})}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["content-type"] = "application/json"
        seconds = self.reading if method == "GET" else ANSWER_SECONDS
        connection = UnixConnection(self.path, seconds)
        try:
            connection.connect()
            if stopped := _stopped(connection):
                raise stopped
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            text = response.read(_LARGEST_ANSWER)
            if response.length:  # bytes are missing; `read(limit)` raises no error
                raise http.client.HTTPException("the answer was cut off")
            content = json.loads(text) if text and response.status < 400 else {}
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning(f"no process serves {self.path}", hint=_NO_SOCKET) from None
        except TimeoutError:
            raise no_answer(connection, seconds) from None
        except PermissionError:
            raise MomError(
                f"this user is not allowed to connect to {self.path}", hint="run this as root, or as a member of the socket's group"
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise MomError(f"unexpected answer from {self.path}: {error or type(error).__name__}", hint="see mom's log") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise refusal(response.status, text)
        return content


def no_answer(connection: UnixConnection, seconds: float) -> MomError:
    """Return the error for a connected mom that does not answer."""
    if stopped := _stopped(connection):
        return stopped
    pid, process = _peer(connection)
    who, hint = "", "mom or the host has hung"
    if process is not None:
        who, hint = f" (process {pid})", f"{hint}: systemd restarts a mom that has hung; to restart it now, systemctl restart mom"
    return MomError(f"mom{who} did not answer on {connection.path} within {seconds:g} s", hint=f"{hint}; {_LAST}")


def _stopped(connection: UnixConnection) -> MomError | None:
    pid, process = _peer(connection)
    if process is None or process.state not in {"T", "t"}:
        return None
    hint = f"kill -CONT {pid} resumes it; {_LAST}"
    return MomError(f"mom (process {pid}) is suspended, and does not answer on {connection.path}", hint=hint)


_LAST: Final = "`mom status` shows the last known state"


def _peer(connection: UnixConnection) -> tuple[int, ProcessStat | None]:
    try:
        pid = PeerCredentials.of(connection.sock).process
    except (OSError, AttributeError):  # http.client may have closed its socket
        return 0, None
    return pid, ProcessStat.of(f"/proc/{pid}")


def refusal(status: int, body: bytes) -> MomError:
    """Return the error that a problem document describes."""
    try:
        content = json.loads(body)
    except ValueError:
        content = {}
    problem = content if isinstance(content, dict) else {}
    message, hint = str(problem.get("detail", f"mom answers with {status}")), str(problem.get("hint", ""))
    if status == 422 and problem.get("problems"):
        return PolicyRefused([PolicyProblem(**each) for each in problem["problems"]], hint=hint or message)
    if status == 404 and message.startswith("there is no guest"):
        return NoSuchGuest(message, hint=hint.partition("; GET ")[0])
    return (ApiMisusedError if status == 400 else ApiRefusedError)(status, message, hint)
