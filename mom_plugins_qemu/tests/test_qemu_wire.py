"""Input from monitors of any kind."""

import socket
import subprocess
from pathlib import Path

import pytest

from mom_kvm import PeerCredentials
from mom_plugins_qemu import visits
from mom_plugins_qemu.qemu_process import Identity, identity_in
from mom_plugins_qemu.visits import Failure
from mom_plugins_qemu.wire import MOST_BYTES, Conversation, WireError

UUID = "7e1d3c1a-93a7-4d0c-a7f5-0d9f3a1b0c01"
GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b"1", b"{} {}", b"\xff", b'{"return": {}, "id": 1}', b'{"return": {}, "id": true}', b'{"return": {}}',
     b'{"error": 1, "id": 0}',
     b'{"return": Infinity, "id": 0}', b'{"return": ' + b"[" * 5000 + b"]" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_no_answer_ends_the_conversation(line: bytes) -> None:
    talk = Conversation(1)
    talk.feed(GREETING)
    with pytest.raises(WireError):
        talk.feed(line + b"\n")


def test_what_comes_without_end_ends_the_conversation() -> None:
    for piece in (b"x" * 65536, b'{"event": "STOP"}\n' * 3000):
        talk = Conversation(1)
        talk.feed(GREETING)
        for _ in range(MOST_BYTES // len(piece) - 1):
            talk.feed(piece)
        with pytest.raises(WireError, match="more than"):
            talk.feed(piece * 3)


@pytest.mark.parametrize(
    ("words", "identity"),
    [
        (["-name", "web,debug-threads=on"], Identity("web", "")),
        (["-name", "guest=a,,b,debug-threads=on", "-uuid", UUID.upper()], Identity("a,b", UUID)),
        (["-id", "100", "-name", "vm100,debug-threads=on", "-smbios", f"type=1,uuid={UUID}"],
         Identity("vm100", UUID)),
        (["-qmp", "unix:/run/qemu/web.qmp,server=on,wait=off"], Identity(monitored=True)),
        (["-chardev", "socket,id=qmp,path=/run/a.qmp,server=on", "-mon", "chardev=qmp,mode=control"], Identity(monitored=True)),
        (["-smbios", f"type=0,uuid={UUID}"], Identity()),
        (["-uuid", "no"], Identity()),
    ],
)  # fmt: skip
def test_a_command_line_says_who_runs(words: list[str], identity: Identity) -> None:
    assert identity_in("\0".join(["/usr/bin/qemu-system-x86_64", *words, ""]).encode()) == identity


def test_a_command_line_says_where_agents_channels_are() -> None:
    words = [
        "qemu-system-x86_64",
        *("-chardev", "socket,path=/run/a,,b.qga,server=on,wait=off,id=qga0", "-device", "virtio-serial,id=s"),
        *("-device", "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0"),
        *("-chardev", "socket,id=momd,path=/run/mom.sock,server,nowait", "-device", "virtserialport,chardev=momd,name=org.mom.guestd.0"),
        *("-chardev", "socket,id=client,path=/run/other.sock", "-device", "virtserialport,chardev=client,name=org.other.0"),
        *("-chardev", "pty,id=pty,path=/run/pty", "-device", "virtserialport,chardev=pty,name=org.pty.0"),
        *("-device", "virtserialport,chardev=nothing,name=org.nothing.0"),
    ]
    found = identity_in("\0".join([*words, ""]).encode())
    assert found.channels == (("org.qemu.guest_agent.0", "/run/a,b.qga"), ("org.mom.guestd.0", "/run/mom.sock"))


@pytest.mark.processes
def test_who_listens_is_not_mistaken_for_another_process(tmp_path: Path) -> None:
    path = tmp_path / "monitor"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as sock:
        listening.bind(str(path))
        listening.listen()
        sock.connect(str(path))
        peer = PeerCredentials.of(sock)
        assert visits._who_listens(sock, peer) is None
        with subprocess.Popen(["sleep", "60"]) as other:
            assert visits._who_listens(sock, peer._replace(process=other.pid)) is Failure.STRANGER
            other.kill()
