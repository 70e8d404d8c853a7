"""Stand-in for libvirt and QEMU of one pod, with libvirt's protocol. Its guest is idle, so hundreds fit on a small host.

`stand_in_libvirt.py SOCKET JSON -uuid UUID`: a process virtqemud listens, and a process qemu-kvm maps the guest's memory. JSON has the
guest's `name` in libvirt, `mib`, and for faults `lie`: `garbage` (invalid messages), `silent` (no answers), `crowd` (many guests). With
`flood`, an answer has this many bytes of figures.

The protocol follows libvirt's src/rpc/virnetprotocol.x and src/remote/remote_protocol.x.
"""

import json
import mmap
import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable

_PROGRAM = 0x20008086
_REPLY, _OK, _ERROR = 1, 0, 1
_NO_SUPPORT = 3
_INT, _ULLONG = 1, 4
PR_SET_NAME = 15
"""Constant of linux/prctl.h."""

CROWD = 50
_MOST_FIGURES = 4096
"""Maximum number of figures of a guest: REMOTE_CONNECT_GET_ALL_DOMAIN_STATS_MAX."""


def _text(text: str) -> bytes:
    content = text.encode()
    return struct.pack(">I", len(content)) + content + bytes(-len(content) % 4)


class Guest:
    """Guest in libvirt's form."""

    def __init__(self, name: str, uuid: str, mib: int) -> None:
        self.name, self.uuid = name, bytes.fromhex(uuid.replace("-", ""))
        self.maximum = self.current = mib << 10
        self.period = 10  # like KubeVirt

    def domain(self) -> bytes:
        """Return its handle."""
        return _text(self.name) + self.uuid + struct.pack(">i", 1)

    def record(self) -> bytes:
        """Return its statistics."""
        used = min(self.current, self.maximum // 4)
        figures = {
            "state.state": (_INT, 1), "state.reason": (_INT, 1), "cpu.time": (_ULLONG, 10**9),
            "balloon.current": (_ULLONG, self.current), "balloon.maximum": (_ULLONG, self.maximum), "balloon.rss": (_ULLONG, used),
            "balloon.last-update": (_ULLONG, int(time.time())), "balloon.available": (_ULLONG, self.current - 1024),
            "balloon.unused": (_ULLONG, self.current - used), "balloon.usable": (_ULLONG, self.current - used),
            "balloon.swap_in": (_ULLONG, 0), "balloon.swap_out": (_ULLONG, 0), "balloon.major_fault": (_ULLONG, 0),
            "balloon.minor_fault": (_ULLONG, 0),
        }  # fmt: skip
        return _parameters(figures)

    def xml(self) -> str:
        """Return its definition."""
        size = f"<memory unit='KiB'>{self.maximum}</memory><currentMemory unit='KiB'>{self.current}</currentMemory>"
        balloon = f"<memballoon model='virtio-non-transitional' freePageReporting='on'><stats period='{self.period}'/></memballoon>"
        return f"<domain type='kvm' id='1'><name>{self.name}</name>{size}<vcpu>1</vcpu><devices>{balloon}</devices></domain>"


def _parameters(figures: dict[str, tuple[int, int]]) -> bytes:
    parts = [struct.pack(">I", len(figures))]
    for name, (kind, value) in figures.items():
        parts += [_text(name), struct.pack(">i", kind), struct.pack(">Q" if kind == _ULLONG else ">i", value)]
    return b"".join(parts)


class Daemon:
    """Answers to mom's calls."""

    def __init__(self, guest: Guest, lie: str, flood: int) -> None:
        self.guest, self.lie, self.flood = guest, lie, flood
        self._answers: dict[int, Callable[[bytes], bytes]] = {
            1: lambda asked: b"",  # CONNECT_OPEN
            2: lambda asked: b"",  # CONNECT_CLOSE
            14: lambda asked: _text(guest.xml()),  # DOMAIN_GET_XML_DESC
            24: lambda asked: guest.domain(),  # DOMAIN_LOOKUP_BY_UUID
            60: lambda asked: struct.pack(">i", 0),  # CONNECT_SUPPORTS_FEATURE
            66: lambda asked: struct.pack(">Ii", 1, 0),  # AUTH_LIST: none is needed
            167: lambda asked: b"",  # CONNECT_DOMAIN_EVENT_REGISTER_ANY
            168: lambda asked: b"",  # CONNECT_DOMAIN_EVENT_DEREGISTER_ANY
            150: lambda asked: struct.pack(">i", 1),  # DOMAIN_IS_ACTIVE
            204: self._set_memory,
            298: lambda asked: struct.pack(">iI", 0, 0),  # DOMAIN_GET_JOB_STATS: it has none
            308: self._set_period,
            344: lambda asked: self._statistics(),
        }

    def _set_memory(self, asked: bytes) -> bytes:
        self.guest.current, _ = struct.unpack(">QI", asked[-12:])
        return b""

    def _set_period(self, asked: bytes) -> bytes:
        self.guest.period, _ = struct.unpack(">iI", asked[-8:])
        return b""

    def _flood(self) -> bytes:
        record = self.guest.domain() + _parameters({f"{index:x}": (_INT, index) for index in range(_MOST_FIGURES)})
        many = (self.flood - 1024) // len(record)
        return struct.pack(">I", many) + record * many

    def _statistics(self) -> bytes:
        if self.flood:
            return self._flood()
        number = CROWD if self.lie == "crowd" else 1
        guests = [Guest(self.guest.name, f"{index:032x}", 1) for index in range(number)] if number > 1 else [self.guest]
        return struct.pack(">I", number) + b"".join(guest.domain() + guest.record() for guest in guests)

    def answer(self, message: bytes) -> bytes:
        """Return the reply to a message, both without their lengths."""
        program, version, procedure, _, serial, _ = struct.unpack(">IiiiIi", message[:24])
        known = self._answers.get(procedure) if program == _PROGRAM else None
        if known is None:
            nobody = struct.pack(">IIIIIII", 0, 0, 0, 0, 0, 0, 0)
            said = struct.pack(">ii", _NO_SUPPORT, 7) + struct.pack(">I", 1) + _text("not here") + struct.pack(">i", 2) + nobody
            return struct.pack(">IiiiIi", program, version, procedure, _REPLY, serial, _ERROR) + said
        return struct.pack(">IiiiIi", program, version, procedure, _REPLY, serial, _OK) + known(message[24:])


def serve(path: str, daemon: Daemon) -> None:
    """Serve connections forever."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(16)
    ready = selectors.DefaultSelector()
    ready.register(listening, selectors.EVENT_READ, None)
    while True:
        for key, _ in ready.select():
            if key.data is None:
                client, _ = listening.accept()
                ready.register(client, selectors.EVENT_READ, bytearray())
            else:
                _talk(ready, key, daemon)


def _talk(ready: selectors.BaseSelector, key: selectors.SelectorKey, daemon: Daemon) -> None:
    client, heard = key.fileobj, key.data
    assert isinstance(client, socket.socket)
    try:
        more = client.recv(65536)
        if daemon.lie == "garbage" and more:
            client.sendall(os.urandom(4096))
            more = b""
        if daemon.lie == "silent" and more:
            return
        heard += more
        while len(heard) >= 4 and len(heard) >= (length := struct.unpack(">I", heard[:4])[0]):
            reply = daemon.answer(bytes(heard[4:length]))
            del heard[:length]
            client.sendall(struct.pack(">I", len(reply) + 4) + reply)
    except OSError:
        more = b""
    if not more:
        ready.unregister(client)
        client.close()


def _call_oneself(name: str) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def main(path: str, said: str, _: str, uuid: str) -> None:
    """Run both processes."""
    told = json.loads(said)
    if not os.fork():
        _call_oneself("qemu-kvm")
        memory = mmap.mmap(-1, told["mib"] << 20)
        while memory:
            time.sleep(3600)
    _call_oneself("virtqemud")
    guest = Guest(told["name"], told.get("claims", uuid), told["mib"])
    serve(path, Daemon(guest, told.get("lie", ""), told.get("flood", 0)))


if __name__ == "__main__":
    main(*sys.argv[1:])
