"""mom finds a pod's socket below the pod's root with any links in it, and no other socket."""

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from kubernetes_node import Node

from mom_core import HypervisorError
from mom_devkit import wait_until
from mom_plugins_kubevirt.pod_socket import MOST_BYTES, Relay, reached
from mom_plugins_kubevirt.pods import LauncherPod

SECONDS = 20.0

Listen = Callable[[Path], None]
Connects = Callable[[LauncherPod], str]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Yield a function that opens a socket at a path."""
    with ExitStack() as opened:

        def at(path: Path) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            sock = opened.enter_context(socket.socket(socket.AF_UNIX))
            handle = os.open(path.parent, os.O_PATH)
            sock.bind(f"/proc/self/fd/{handle}/{path.name}")  # a path in a test's folder may be too long
            os.close(handle)
            sock.listen()

        yield at


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def launcher(node: Node, user: int | None = None) -> LauncherPod:
    """Return a pod whose root is a folder of its process."""
    pid = node.process("virtqemud", "/kubepods/pod")
    (node.root / f"proc/{pid}/root").mkdir()
    (node.root / f"proc/{pid}/status").write_text(f"Name:\tvirtqemud\nUid:\t0\t{os.getuid() if user is None else user}\t0\t0\n")
    return LauncherPod(pid, 7 * pid, "uid", "", "var/run/libvirt/virtqemud-sock", "prod", "virt-launcher-db-x7k2p")


def root_of(node: Node, pod: LauncherPod) -> Path:
    return node.root / f"proc/{pod.pid}/root"


@pytest.fixture
def relay() -> Iterator[Relay]:
    made = Relay()
    yield made
    made.stop(SECONDS)


@pytest.fixture
def connects(node: Node, relay: Relay) -> Connects:
    """Yield a function that connects to a pod's socket, and returns the URI."""

    def connect(pod: LauncherPod) -> str:
        with reached(node.root / "proc", pod, relay) as uri, socket.socket(socket.AF_UNIX) as client:
            client.connect(uri.partition("?socket=")[2])
            return uri

    return connect


def test_the_socket_is_reached_through_links_that_stay_in_the_pod(node, listen, connects):
    pod = launcher(node)
    listen(root_of(node, pod) / "run/libvirt/virtqemud-sock")
    (root_of(node, pod) / "var").mkdir()
    (root_of(node, pod) / "var/run").symlink_to("/run")  # like in most images: absolute, for the pod
    expected = "qemu+unix:///session?" if os.getuid() else "qemu+unix:///system?"
    assert connects(pod).startswith(expected)


def test_a_link_that_leads_out_of_the_pod_ends_within_it(node, listen, connects):
    pod = launcher(node)
    listen(node.root / "outside/libvirt/virtqemud-sock")
    (root_of(node, pod) / "var").mkdir()
    (root_of(node, pod) / "var/run").symlink_to("../../../../outside")
    with pytest.raises(HypervisorError, match="the pod contains no /var/run/libvirt/virtqemud-sock"):
        connects(pod)


def test_a_socket_that_is_itself_a_link_is_refused(node, listen, connects):
    pod = launcher(node)
    listen(root_of(node, pod) / "real-sock")
    path = root_of(node, pod) / pod.socket
    path.parent.mkdir(parents=True)
    path.symlink_to("/real-sock")
    with pytest.raises(HypervisorError, match="its path is not a socket"):
        connects(pod)


def test_a_socket_of_another_user_than_the_daemons_is_refused(node, listen, connects):
    pod = launcher(node, user=107)
    listen(root_of(node, pod) / pod.socket)
    with pytest.raises(HypervisorError, match=f"its socket belongs to user {os.getuid()}, but the daemon runs as 107"):
        connects(pod)


@pytest.mark.parametrize("status", ["", "Name:\tvirtqemud\n", "Name:\tx\nUid:\t0\n", "Name:\tx\nUid:\t0\troot\t0\t0\n"])
def test_a_daemon_of_which_the_kernel_does_not_tell_whose_it_is_is_not_entered(node, listen, connects, status):
    pod = launcher(node)
    listen(root_of(node, pod) / pod.socket)
    (node.root / f"proc/{pod.pid}/status").write_text(status)
    with pytest.raises(HypervisorError, match="its user is unknown"):
        connects(pod)


def test_a_process_that_has_the_number_of_one_that_ended_is_not_entered(node, listen, connects):
    pod = launcher(node)
    listen(root_of(node, pod) / pod.socket)
    stat = node.root / f"proc/{pod.pid}/stat"
    stat.write_text(stat.read_text().replace(str(pod.started), str(pod.started + 1)))
    with pytest.raises(HypervisorError, match="the daemon has exited"):
        connects(pod)


def test_no_handle_is_left_open(node, listen, connects):
    pod = launcher(node)
    listen(root_of(node, pod) / pod.socket)
    connects(pod)  # starts the relay
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        connects(pod)
    wait_until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before, "all are closed", 20)


# --- the relay ----------------------------------------------------------------------------------------------------


class Passage:
    """Connection of a client to a pod's socket through the relay."""

    def __init__(self, folder: Path, relay: Relay) -> None:
        self.refused: list[str] = []
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "s"))
            listener.listen()
            with relay.to(str(folder / "s"), self.refused.append) as path:
                self.client = socket.socket(socket.AF_UNIX)
                self.client.connect(path)
            self.pod, _ = listener.accept()
        for one in (self.client, self.pod):
            one.settimeout(SECONDS)

    def hears(self, number: int) -> bytes:
        """Return this number of bytes, or those before the end."""
        heard = b""
        while len(heard) < number and (more := self.client.recv(number - len(heard))):
            heard += more
        return heard

    def close(self) -> None:
        self.client.close()
        self.pod.close()


@pytest.fixture
def passage(relay: Relay) -> Iterator[Passage]:
    with TemporaryDirectory(prefix="relay-") as folder:  # paths of sockets have at most 107 bytes
        made = Passage(Path(folder), relay)
        yield made
        made.close()


def message(size: int) -> bytes:
    return struct.pack(">I", size) + bytes(size - 4)


def test_requests_and_answers_are_passed_on_whole(passage: Passage) -> None:
    passage.client.sendall(b"request")
    assert passage.pod.recv(100) == b"request"
    answers = message(4) + message(28) + message(5) + message(MOST_BYTES)

    def send() -> None:
        for byte in range(35):  # messages may come in any pieces
            passage.pod.sendall(answers[byte : byte + 1])
        passage.pod.sendall(answers[35:])

    sender = threading.Thread(target=send)
    sender.start()
    assert passage.hears(len(answers)) == answers
    sender.join(SECONDS)
    assert passage.refused == []


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (message(28) + struct.pack(">I", 32 << 20), f"its libvirt sends a message of {32 << 20} bytes, and the limit for one guest is"),
        (message(28) + struct.pack(">I", MOST_BYTES + 1), f"its libvirt sends a message of {MOST_BYTES + 1} bytes"),
        (message(28) + bytes(4), "its libvirt does not speak libvirt's protocol"),
    ],
)
def test_a_message_that_is_too_long_ends_the_connection_before_any_of_it_is_read(passage: Passage, sent: bytes, why: str) -> None:
    passage.pod.sendall(sent[:28])
    assert passage.hears(28) == sent[:28]
    passage.pod.sendall(sent[28:])
    assert passage.client.recv(1) == b""
    assert [one[: len(why)] for one in passage.refused] == [why]


def test_after_its_end_nothing_is_connected(relay: Relay) -> None:
    with TemporaryDirectory(prefix="relay-") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()
        relay.stop(SECONDS)
        with pytest.raises(OSError, match="mom is stopping"), relay.to(f"{folder}/s", print):
            pass
