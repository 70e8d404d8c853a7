"""The program that libvirt and Proxmox VE run before a guest starts. Only mom's refusal stops a start."""

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner
from served_mom import Serve

from mom_core import ConfigError, MomError, Severity, load_config
from mom_plugins_http.launch_hook.installed import Hook, HookState, Platform, hook_command
from mom_plugins_http.routes.launches import LaunchQuery

ALIVE, LIMIT = 10, 15
"""Usual time limits of the programs in seconds, enough for a busy machine."""

SOON = {"alive": 1, "limit": 4}
"""Short time limits, for tests that wait for their end."""

MAY_START, MUST_NOT = 0, 1
XML = "<domain><name>web</name><memory unit='GiB'>1</memory></domain>"
Answer = Callable[[socket.socket], None]


@dataclass
class HookedHost:
    """Host with the installed program, and its messages to the journal."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    patience: dict[str, int] = field(default_factory=lambda: {"alive": ALIVE, "limit": LIMIT})

    def __post_init__(self) -> None:
        for folder in ("etc/libvirt", "etc/pve/qemu-server", "bin", "run"):
            (self.root / folder).mkdir(parents=True)
        logger = self.root / "bin/logger"
        logger.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {self.root}/journal\n')
        logger.chmod(0o755)
        self.environment = {"PATH": f"{self.root}/bin:{os.environ['PATH']}", "LC_ALL": "C"}

    @property
    def socket(self) -> Path:
        return self.root / "run/mom.sock"

    @property
    def journal(self) -> str:
        path = self.root / "journal"
        return path.read_text() if path.exists() else ""

    def hook(self, platform: Platform = Platform.LIBVIRT) -> Hook:
        return Hook(platform, self.root, self.socket, 10.0)

    def installed(self, platform: Platform = Platform.LIBVIRT) -> Path:
        """Install the program with these time limits. Return its path."""
        hook = self.hook(platform)
        hook.install()
        text = hook.path.read_text()
        for before, after in (("alive=3 ", f"alive={self.patience['alive']} "), ("limit=15 ", f"limit={self.patience['limit']} ")):
            assert before in text
            text = text.replace(before, after)
        hook.path.write_text(text)
        return hook.path

    def run(self, *arguments: str, text: str = XML) -> subprocess.CompletedProcess[str]:
        """Run the program like libvirt."""
        path = self.installed()
        given = arguments or ("web", "prepare", "begin", "-")
        done = subprocess.run(
            [str(path), *given], input=text, capture_output=True, text=True, env=self.environment, timeout=30, check=False
        )
        assert done.stdout == "", "libvirt takes it for the guest's new description"
        return done


@pytest.fixture
def host(tmp_path: Path) -> HookedHost:
    return HookedHost(tmp_path)


@pytest.fixture
def mom(host: HookedHost) -> Iterator[Callable[[Answer], None]]:
    """Yield a function that serves the socket with a handler of connections."""
    with contextlib.ExitStack() as stack:

        def serve(answer: Answer) -> None:
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(str(host.socket))
            server.listen()

            def accept() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        client, _ = server.accept()
                        stack.enter_context(client)
                        with contextlib.suppress(OSError):
                            answer(client)

            threading.Thread(target=accept, daemon=True).start()
            stack.callback(server.shutdown, socket.SHUT_RDWR)

        yield serve


def head(client: socket.socket) -> bytes:
    found = b""
    while b"\r\n\r\n" not in found:
        found += client.recv(1 << 16)
    return found


def answers(status: int, content: object, *, asked: list[bytes] | None = None) -> Answer:
    """Return a handler that reads a request and sends this answer."""

    def answer(client: socket.socket) -> None:
        request = head(client)
        client.sendall(b"HTTP/1.1 100 \r\n\r\n")
        length = int(request.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        body = b""
        while len(body) < length:
            body += client.recv(1 << 16)
        if asked is not None:
            asked.extend((request, body))
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        client.sendall(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n" % (status, len(text)) + text)
        client.close()

    return answer


REFUSED = {"status": 409, "detail": "8.00 GiB cannot be had: at most 1.00 GiB can", "hint": "2 GiB are available", "state": "refused"}


@pytest.mark.processes
class TestWhatIsCarried:
    def test_a_guest_for_which_there_is_memory_starts(self, host: HookedHost, mom: Callable[[Answer], None]) -> None:
        asked: list[bytes] = []
        mom(answers(200, {"state": "starts"}, asked=asked))
        done = host.run()
        assert (done.returncode, done.stderr, host.journal) == (MAY_START, "", "")
        request, body = asked
        assert request.startswith(f"POST /v1/launches?patience={LIMIT - 2} HTTP/1.1\r\nhost: mom\r\ncontent-type: application/xml".encode())
        assert body == XML.encode()

    def test_one_that_mom_refuses_does_not_and_who_starts_it_reads_why(self, host: HookedHost, mom: Callable[[Answer], None]) -> None:
        mom(answers(409, REFUSED))
        done = host.run()
        assert done.returncode == MUST_NOT
        assert done.stderr == "mom: 8.00 GiB cannot be had: at most 1.00 GiB can (2 GiB are available)\n"
        assert host.journal == ""

    @pytest.mark.parametrize("operation", ["start begin", "release end", "migrate begin"])
    def test_everything_else_goes_by_without_a_question(self, host: HookedHost, operation: str, mom: Callable[[Answer], None]) -> None:
        asked: list[bytes] = []
        mom(answers(409, REFUSED, asked=asked))
        done = host.run("web", *operation.split(), "-", text=XML * 10_000)
        assert (done.returncode, done.stderr, host.journal, asked) == (MAY_START, "", "", [])

    @pytest.mark.parametrize("phase", ["pre-start", "post-stop"])
    def test_proxmox_asks_before_a_start_with_the_guests_definition(
        self, host: HookedHost, phase: str, mom: Callable[[Answer], None]
    ) -> None:
        (host.root / "etc/pve/qemu-server/100.conf").write_text("memory: 4096\nname: web\n")
        asked: list[bytes] = []
        mom(answers(409, REFUSED, asked=asked))
        done = subprocess.run(
            [host.installed(Platform.PROXMOX), "100", phase],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, env=host.environment, timeout=30, check=False,
        )  # fmt: skip
        if phase != "pre-start":
            assert (done.returncode, asked) == (MAY_START, [])
            return
        assert done.returncode == MUST_NOT
        assert asked[0].startswith(f"POST /v1/launches?patience={LIMIT - 2}&id=100 HTTP/1.1".encode())
        assert asked[1] == b"memory: 4096\nname: web\n"


def silent(client: socket.socket) -> None:
    head(client)


def then_silent(client: socket.socket) -> None:
    head(client)
    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def closes(client: socket.socket) -> None:
    head(client)
    client.close()


def rubbish(client: socket.socket) -> None:
    head(client)
    client.sendall(b"\x00\xff" * 1000 + b"\r\n\r\n")
    client.close()


def trickles(client: socket.socket) -> None:
    for _ in range(200):
        client.sendall(b"H")
        time.sleep(0.2)


def floods(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 100 \r\n\r\n" + b"x" * (64 << 20))
    client.close()


@pytest.mark.processes
@pytest.mark.long
class TestWhateverGoesWrong:
    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (closes, "mom has ended the connection without an answer"),
            (rubbish, "the program that answers is not mom"),
            (floods, "the program that answers is not mom"),
            (answers(409, {"detail": "no enabled plugin makes room for launches"}), "no enabled plugin makes room"),
            (answers(500, {"detail": "mom made a mistake", "state": "refused"}), "mom made a mistake"),
            (answers(409, b"{"), "JSONDecodeError"),
            (answers(409, {"state": "refused"}), "KeyError"),
        ],
    )
    def test_the_guest_starts_and_the_journal_says_why(
        self, host: HookedHost, mom: Callable[[Answer], None], answer: Answer, why: str
    ) -> None:
        mom(answer)
        done = host.run()
        assert (done.returncode, done.stderr) == (MAY_START, "")
        assert "guest web starts without an answer from mom: " in host.journal
        assert why in host.journal

    @pytest.mark.parametrize(
        ("answer", "ends", "why"),
        [
            (silent, "alive", "mom does not accept requests"),
            (then_silent, "limit", "mom has not decided in time"),
            (trickles, "limit", "the request to mom took longer than"),
        ],
    )
    def test_the_guest_starts_when_mom_takes_too_long(
        self, host: HookedHost, mom: Callable[[Answer], None], answer: Answer, ends: str, why: str
    ) -> None:
        mom(answer)
        host.patience[ends] = SOON[ends]
        done = host.run()
        assert (done.returncode, done.stderr) == (MAY_START, "")
        assert "guest web starts without an answer from mom: " in host.journal
        assert why in host.journal

    def test_where_mom_is_away(self, host: HookedHost) -> None:
        assert host.run().returncode == MAY_START
        assert f"there is no {host.socket}" in host.journal

    def test_where_mom_was_killed(self, host: HookedHost) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(host.socket))
        assert host.run().returncode == MAY_START
        assert "Connection refused" in host.journal

    @pytest.mark.parametrize("name", ["$(reboot)", "a\nb", "--"])
    def test_a_name_may_be_anything(self, host: HookedHost, name: str) -> None:
        assert host.run(name, "prepare", "begin", "-").returncode == MAY_START
        assert host.journal.count("without an answer from mom") == 1

    @pytest.mark.parametrize("number", ["100", "../../etc/passwd"])
    def test_a_guest_of_proxmox_without_a_definition_starts(self, host: HookedHost, number: str, mom: Callable[[Answer], None]) -> None:
        mom(answers(409, REFUSED))
        path = host.installed(Platform.PROXMOX)
        done = subprocess.run([path, number, "pre-start"], stdin=subprocess.DEVNULL, env=host.environment, timeout=30, check=False)
        assert done.returncode == MAY_START
        assert "without an answer from mom" in host.journal


@pytest.mark.processes
def test_a_real_mom_understands_it(serve: Serve, host: HookedHost) -> None:
    """mom understands its request. The simulated host cannot read definitions, which is not a refusal."""
    served = serve(cycles=2)
    host.socket.symlink_to(served.path)
    assert host.run().returncode == MAY_START
    assert "no enabled plugin can read this description of a guest" in host.journal


class TestInstalling:
    def test_it_is_installed_shown_written_anew_and_removed(self, host: HookedHost) -> None:
        hook = host.hook()
        assert hook.state() is HookState.ABSENT
        hook.install()
        assert hook.path == host.root / "etc/libvirt/hooks/qemu.d/mom"
        assert hook.state() is HookState.CURRENT
        assert hook.path.stat().st_mode & 0o777 == 0o755
        assert [path.name for path in (host.root / "etc/libvirt/hooks").rglob("*")] == ["qemu.d", "mom"]
        assert Hook(Platform.LIBVIRT, host.root, host.socket, 60.0).state() is HookState.OTHER
        hook.path.chmod(0o644)
        assert hook.state() is HookState.OTHER, "it is not executable"
        hook.install()
        assert hook.state() is HookState.CURRENT
        assert hook.remove()
        assert hook.state() is HookState.ABSENT
        assert not hook.remove()

    def test_mom_takes_the_patience_of_one_for_the_longest_wait_that_can_be_configured(self, host: HookedHost) -> None:
        def configured(wait: str) -> None:
            load_config({"plugins": {"balloon": {"reservations": {"launches": {"wait": wait}}}}})

        configured("300s")
        with pytest.raises(ConfigError):
            configured("301s")
        limit = re.search(r"^limit=(\d+) ", Hook(Platform.LIBVIRT, host.root, host.socket, 300.0).text(), re.MULTILINE)
        assert limit is not None
        assert LaunchQuery(patience=int(limit[1]) - 2).patience == 303

    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_what_is_not_moms_stays_as_it_is(self, host: HookedHost, kind: str) -> None:
        path = host.hook().path
        path.parent.mkdir(parents=True)
        if kind == "file":
            path.write_text("#!/bin/sh\nexit 0\n")
        else:
            path.symlink_to("/bin/true")
        for act in (host.hook().install, host.hook().remove):
            with pytest.raises(MomError, match="is not mom's, and was not changed"):
                act()
        assert path.is_symlink() or path.read_text() == "#!/bin/sh\nexit 0\n"

    def test_a_host_without_the_platform_gets_none(self, tmp_path: Path) -> None:
        for platform in Platform:
            with pytest.raises(MomError, match="this host has no"):
                Hook(platform, tmp_path, tmp_path / "s", 10).install()
        assert list(tmp_path.iterdir()) == []

    def test_one_that_guests_of_proxmox_name_is_not_removed(self, host: HookedHost) -> None:
        hook = host.hook(Platform.PROXMOX)
        hook.install()
        definition = host.root / "etc/pve/qemu-server/100.conf"
        definition.write_text("memory: 4096\nhookscript: local:snippets/mom-launch\n")
        with pytest.raises(MomError, match="does not start the guests that name it") as refused:
            hook.remove()
        assert refused.value.hint == "qm set 100 --delete hookscript"
        definition.write_text("memory: 4096\n")
        assert hook.remove()

    @pytest.mark.processes
    def test_a_path_with_blanks_and_quotes_is_one(self, host: HookedHost) -> None:
        text = Hook(Platform.LIBVIRT, host.root, Path("/run/it's mine/mom.sock"), 10).text()
        assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
        assert "socket='/run/it'\"'\"'s mine/mom.sock'" in text


@pytest.mark.parametrize(
    ("text", "severity", "message", "cure"),
    [
        ("", Severity.OK, "libvirt does not ask mom for memory", "to let mom make room: `mom hook install libvirt`"),
        ("{}", Severity.OK, "libvirt asks mom before it starts a guest", ""),
        ("{}# another", Severity.WARNING, "another version", "`mom hook install libvirt`"),
        ("#!/bin/sh", Severity.OK, "is not mom's", ""),
    ],
)
def test_doctor_tells_each_state_with_the_line_that_cures_it(
    host: HookedHost, text: str, severity: Severity, message: str, cure: str
) -> None:
    hook = host.hook()
    if text:
        hook.install()
        hook.path.write_text(text.replace("{}", hook.text()))
    found = hook.finding()
    assert (found.severity, found.cure) == (severity, cure)
    assert message in found.message


def test_the_verbs_install_and_remove_it_by_the_configuration(host: HookedHost) -> None:
    config = host.root / "mom.yaml"
    config.write_text(f"run_directory: {host.root}/run\nplugins:\n  balloon: {{reservations: {{launches: {{wait: 20s}}}}}}\n  http: {{}}\n")

    def verb(*arguments: str) -> str:
        done = CliRunner().invoke(hook_command, [*arguments, "--root", str(host.root), "-c", str(config)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    assert "systemctl reload libvirtd" in verb("install", "libvirt")
    text = host.hook().path.read_text()
    assert f"socket={host.root}/run/mom.sock\n" in text
    assert "limit=25 " in text
    assert "qm set VMID --hookscript local:snippets/mom-launch" in verb("install", "proxmox")
    assert "is removed" in verb("remove", "libvirt")
    assert "There is no" in verb("remove", "libvirt")
