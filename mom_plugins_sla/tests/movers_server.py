"""Real HTTP server with set answers that records requests."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """Received request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Server:
    """HTTP server. `answer` returns status and body for a request; status 0 closes the connection without an answer.

    If set, `writes` writes any bytes instead, at most until the end of the test.
    """

    url: str = ""
    got: list[Request] = field(default_factory=list)
    answer: Callable[[Request], tuple[int, bytes]] = lambda request: (200, b"{}")
    writes: Callable[[BaseHTTPRequestHandler], object] | None = None
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def asked(self) -> list[tuple[str, str]]:
        return [(one.method, one.path) for one in self.got]


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, {key.lower(): value for key, value in self.headers.items()}, body)
            server.got.append(request)
            if server.writes is not None:
                self.close_connection = True
                with suppress(OSError):
                    server.writes(self)
                return
            status, content = server.answer(request)
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815  # the names that http.server calls

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # as http.server has it
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    try:
        yield server
    finally:
        server.over.set()
        http.shutdown()
        http.server_close()
        thread.join()
