"""Sockets of plugins, and their files."""

import errno
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mom_core import MomError
from mom_kvm import Address

MOM, READERS, CHANGERS, STRANGERS = 61_000, 61_001, 61_002, 61_003
"""IDs of users and groups that do not exist."""


@pytest.mark.parametrize("is_there", [False, True])
def test_a_process_that_may_open_no_more_files_cannot_listen_and_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    if is_there:
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(tmp_path / "mom.sock"))

    def too_many(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socket", too_many)
    with pytest.raises(MomError, match=r"cannot listen on .*mom.sock: Too many open files \(if mom has too many open files"):
        Address(path=str(tmp_path / "mom.sock")).listen()


def test_a_file_that_another_program_has_put_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "mom.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ours, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as theirs:
        ours.bind(str(path))
        listener = Address.Listener(ours, path)
        path.unlink()
        theirs.bind(str(path))
        listener.close()
    assert path.is_socket()


@pytest.mark.parametrize("kind", ["stale", "datagrams", "file", "folder", "link"])
def test_a_socket_that_nobody_serves_is_replaced_and_anything_else_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mom.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "datagrams" else socket.SOCK_STREAM) as other:
        if kind == "link":
            path.symlink_to("/etc/passwd")
        elif kind in {"file", "folder"}:
            path.touch() if kind == "file" else path.mkdir()
        else:
            other.bind(str(path))
        if kind == "stale":
            other.close()
            Address(path=str(path)).listen().close()
            return
        with pytest.raises(MomError, match="cannot find out" if kind == "datagrams" else "exists and is not a socket"):
            Address(path=str(path)).listen()
    assert path.is_symlink() or path.exists()


@pytest.mark.processes
def test_a_socket_that_another_process_serves_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mom.sock"
    serve = "import socket, sys; live = socket.socket(socket.AF_UNIX); live.bind(sys.argv[1]); live.listen(); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", serve, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        with pytest.raises(MomError, match=rf"process {child.pid} already listens on .*mom\.sock \(stop it first"):
            Address(path=str(path)).listen()
        assert path.is_socket()


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MomError, match=rf"cannot listen on .*nope/s: No such file or directory \(create the folder {tmp_path}/nope first"):
        Address(path=str(tmp_path / "nope/s")).listen()


@contextmanager
def another_user(user: int, group: int) -> Iterator[None]:
    """Run without root's rights."""
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_power_lets_groups_in_that_it_is_not_in() -> None:
    with tempfile.TemporaryDirectory(prefix="mom-") as name:
        folder, path = Path(name), Path(name, "mom.sock")
        folder.chmod(0o755)
        os.chown(folder, MOM, MOM)
        with another_user(MOM, MOM):
            listener = Address(str(path)).listen(mode=0o660, group=CHANGERS, second_group=READERS)
        for group, may in ((READERS, True), (CHANGERS, True), (STRANGERS, False)):
            with another_user(STRANGERS, group), socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(str(path))
                except PermissionError:
                    assert not may, group
                else:
                    assert may, group
        with another_user(MOM, MOM):
            listener.close()
        assert not path.exists()
