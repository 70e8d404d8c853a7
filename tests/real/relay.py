"""TCP port of this host that leads to a unix socket."""

import socket
import threading
from contextlib import suppress
from pathlib import Path


class Relay:
    """Relay of connections. `close` ends all of them."""

    def __init__(self, behind: Path) -> None:
        self._behind = behind
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        """Port of the relay."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Close all connections."""
        for one in self._open:
            with suppress(OSError):  # its peer has closed it
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with suppress(OSError):  # the relay was closed
            while True:
                one, _ = self._listener.accept()
                other = socket.socket(socket.AF_UNIX)
                other.connect(str(self._behind))
                self._open += [one, other]
                for pair in ((one, other), (other, one)):
                    self._threads.append(threading.Thread(target=_pass_on, args=pair, daemon=True))
                    self._threads[-1].start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # one side has closed
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
