"""Sockets that a plugin listens on, and what is left of them."""

import socket
from pathlib import Path

from mom_toolkit import Listener


class Watched(socket.socket):
    """Notes whether a file stood at its path when it was closed."""

    path: Path | None = None
    stood: bool | None = None

    def close(self) -> None:
        if self.path is not None and self.stood is None:
            self.stood = self.path.exists()
        super().close()


def test_the_file_goes_while_the_socket_still_listens_so_that_it_cannot_be_a_successors(tmp_path: Path) -> None:
    """A file system may give the successor's file the same inode number, and only the number tells whose it is."""
    watched = Watched(socket.AF_UNIX, socket.SOCK_STREAM)
    watched.path = tmp_path / "mom.sock"
    watched.bind(str(watched.path))
    watched.listen()
    Listener(watched, watched.path).close()
    assert watched.stood is False


def test_a_file_that_another_program_has_put_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "mom.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ours, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as theirs:
        ours.bind(str(path))
        listener = Listener(ours, path)
        path.unlink()
        theirs.bind(str(path))
        listener.close()
    assert path.is_socket()
