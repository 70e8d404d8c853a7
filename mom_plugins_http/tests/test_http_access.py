"""Access rights, with real processes of other users."""

import errno
import json
import os
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from http_over_tcp import tcp_settings
from served_mom import patient

from mom_core import MomError, PluginContext, Severity
from mom_devkit import config_of
from mom_plugins_http import HttpPlugin
from mom_plugins_http.server.access import read_token

NOBODY, READERS, CHANGERS = 65534, 61_001, 61_002

ASK = """
import http.client, json, os, socket, sys
path, groups, method, url = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
os.chdir(os.path.dirname(path))
os.setgroups(groups); os.setgid(65534); os.setuid(65534)
sock = socket.socket(socket.AF_UNIX); sock.connect(os.path.basename(path))
one = http.client.HTTPConnection("mom"); one.sock = sock
one.request(method, url, b"(+ 1 2)", {"content-type": "text/plain", "if-match": "*"})
answer = one.getresponse()
print(json.dumps([answer.status, answer.read().decode()]))
"""


def as_another_user(test):
    """Mark a test that starts processes of other users."""
    return pytest.mark.processes(pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")(test))


def ask(path: Path, groups: list[int], method: str = "GET", url: str = "/v1/status") -> tuple[int, str]:
    """Send a request as nobody in these groups. Return the status and the answer.

    The process runs in the socket's folder, because each new pytest closes the folder of all tests to other users.
    """
    path.parent.chmod(0o755)
    command = [sys.executable, "-c", ASK, str(path), json.dumps(groups), method, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd="/")
    status, text = json.loads(done.stdout)
    return status, text


def assert_cannot_connect(path: Path) -> None:
    """Check that nobody, without groups, cannot even connect."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        ask(path, [])
    assert "PermissionError" in caught.value.stderr


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add two groups that this host need not have."""
    monkeypatch.setattr("mom_plugins_http.service.group_id", {"readers": READERS, "changers": CHANGERS}.__getitem__)


@pytest.fixture(params=["as root", "as another user"])
def powers(request, monkeypatch):
    """Run a test as root, and without the right to give files to any group."""
    if request.param == "as root":
        return

    def refused(path: Path, user: int, group: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)


@as_another_user
@pytest.mark.usefixtures("groups", "powers")
def test_one_group_may_read_another_may_change_and_a_stranger_cannot_even_connect(serve, caplog):
    served = serve(read_group="readers", change_group="changers")
    for path in (served.path, served.path.with_name("mom-page.sock")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert {ask(path, [group])[0] for group in (READERS, CHANGERS)} == {200 if path == served.path else 401}
        assert_cannot_connect(path)
    assert ask(served.path, [CHANGERS], "POST", "/v1/policy-reset")[0] == 200
    status, text = ask(served.path, [READERS], "POST", "/v1/policy-reset")
    assert status == 403
    assert "`change_group` of the http plugin" in text
    assert "refused a request of user nobody" in caplog.text


@as_another_user
def test_without_groups_only_root_can_connect(served):
    assert stat.S_IMODE(served.path.stat().st_mode) == 0o600
    assert_cannot_connect(served.path)


@as_another_user
@pytest.mark.usefixtures("groups", "powers")
def test_without_access_control_lists_mom_refuses_strangers_itself(serve, monkeypatch):
    def unsupported(*_: object) -> bytes:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", unsupported)
    monkeypatch.setattr(os, "getxattr", unsupported)
    served = serve(read_group="readers", change_group="changers")
    assert stat.S_IMODE(served.path.stat().st_mode) == 0o666
    assert ask(served.path, [READERS])[0] == ask(served.path, [CHANGERS])[0] == 200
    status, text = ask(served.path, [])
    assert (status, "read_group or change_group" in text) == (403, True)


def test_a_token_that_all_can_read_or_guess_is_refused(tmp_path):
    token = tmp_path / "token"
    for text, mode, why in (
        ("x" * 32, 0o644, "every user has access"),
        ("short", 0o600, "contains no token"),
        ("x " * 32, 0o600, "no token"),
    ):
        token.write_text(text)
        token.chmod(mode)
        with pytest.raises(MomError, match=why):
            read_token(token)


HOSTILE = [
    "[::1].evil.com", "::1", "[::1%25lo]", "[localhost]", "localhost:evil.com", "localhost:\N{ARABIC-INDIC DIGIT THREE}", "localhost.",
    "localhost.evil.com", "evil.com@localhost", "localhost\n", "\N{FULLWIDTH LATIN SMALL LETTER L}ocalhost", "127.1", "2130706433",
    "127.0.0.2", "mom:8132", "MOM", "evil.com", "[::ffff:127.0.0.1]",
]  # fmt: skip
"""Host names that some parsers or resolvers treat as this machine, and names of other machines."""


def test_tcp_needs_tls_a_token_and_the_right_name(serve, tmp_path, free_port, caplog):
    tcp = tcp_settings(tmp_path, free_port, read="read" * 8, change="change" * 8)
    served = serve(tcp=tcp)
    verify = ssl.create_default_context(cafile=str(tcp["certificate"]))
    with httpx.Client(verify=verify, base_url=f"https://127.0.0.1:{free_port}", timeout=60) as client:
        over_tcp = replace(served, client=client)
        assert client.get("/v1/status").status_code == 401
        for guess in ("nonsense", "s3cret-guess"):
            assert client.get("/v1/status", headers={"authorization": f"Bearer {guess}"}).status_code == 401
        client.headers["authorization"] = f"Bearer {'read' * 8}"
        assert client.get("/metrics").status_code == 200
        assert over_tcp.put("60_mine").status_code == 403
        assert client.get("/v1/status", headers={"origin": "https://evil.example"}).status_code == 403
        assert client.get("/v1/status", headers={"host": "evil.example"}).status_code == 403
        client.headers["authorization"] = f"Bearer {'change' * 8}"
        assert over_tcp.put("60_mine").status_code == 200
    wrong = [one.getMessage() for one in caplog.records if one.levelname == "WARNING" and "no valid token" in one.getMessage()]
    assert len(wrong) == 2
    assert not any(secret in caplog.text for secret in ("nonsense", "s3cret", "read" * 8, "change" * 8))
    with httpx.Client() as plain, pytest.raises(httpx.HTTPError):
        plain.get(f"http://127.0.0.1:{free_port}/v1/status")


def checked(tmp_path, **settings):
    """Return the errors of these settings before mom starts."""
    config = config_of(tmp_path, {"http": settings})
    read = config.plugins["http"].settings
    assert isinstance(read, HttpPlugin.Settings)
    context = PluginContext("http", state_directory=config.state_directory, run_directory=config.run_directory, serves=False)
    return [(one.severity, one.message) for one in HttpPlugin(read, context).mom_check()]


def test_what_keeps_mom_from_serving_tcp_is_said_before_it_starts(tmp_path, free_port):
    tcp = tcp_settings(tmp_path, free_port, read="read" * 8, change="change" * 8)
    assert checked(tmp_path, tcp=tcp) == []
    (tmp_path / "read").chmod(0o644)
    (tmp_path / "cert.pem").write_text("")
    of_certificate, of_token = checked(tmp_path, tcp=tcp)
    assert of_certificate[0] is of_token[0] is Severity.ERROR
    assert "the certificate" in of_certificate[1]
    assert "is not secret" in of_token[1]
    ((_, why),) = checked(tmp_path, tcp=tcp_settings(tmp_path, free_port, read="same" * 8, change="same" * 8))
    assert "the same token" in why
    ((_, why),) = checked(tmp_path, tcp=tcp_settings(tmp_path, free_port, read="short"))
    assert "contains no token" in why
    ((_, why),) = checked(tmp_path, read_group="nowhere-at-all")
    assert "there is no group nowhere-at-all" in why
    tcp = tcp_settings(tmp_path, free_port, read="read" * 8)
    (tmp_path / "read").unlink()
    assert checked(tmp_path, tcp=tcp) == [], "`mom config check` looks for such files itself"


def test_a_token_that_only_mom_can_read_is_no_error_of_the_configuration(tmp_path, free_port, monkeypatch):
    def denied(path, *_, **__):
        raise MomError(f"the token in {path} cannot be read") from PermissionError()

    monkeypatch.setattr("mom_plugins_http.service.read_token", denied)
    ((found, _),) = checked(tmp_path, tcp=tcp_settings(tmp_path, free_port, read="read" * 8))
    assert found is Severity.WARNING


HERE = "localhost:8132"


@pytest.mark.parametrize(
    ("host", "origin", "fetch_site", "good"),
    [
        ("mom", None, None, True),
        ("", None, None, True),
        (HERE, f"http://{HERE}", "same-origin", True),
        ("[::1]:8132", "http://[::1]:8132", None, True),
        (HERE, None, "none", True),
        (HERE, "https://evil.example", None, False),
        (HERE, "http://localhost:3000", "same-site", False),
        (HERE, "null", None, False),
        (HERE, None, "cross-site", False),
        ("evil.example:8132", "http://evil.example:8132", None, False),
        ("mom", "http://mom", None, False),
        ("mom", None, "none", False),
    ],
)
def test_no_site_reaches_a_forwarded_socket_through_the_operators_browser(shared, host, origin, fetch_site, good):
    """With `ssh -L 8132:/run/mom/mom.sock`, a browser can send this. The owner of `evil.example` lets the name point to 127.0.0.1."""
    headers = {"host": host, "origin": origin, "sec-fetch-site": fetch_site}
    sent = {name: value for name, value in headers.items() if value is not None}
    assert (shared.client.get("/v1/status", headers=sent).status_code == 200) is good
    assert (shared.client.post("/v1/policy-reset", headers={**sent, "if-match": "*"}).status_code == 200) is good


def test_the_address_that_a_request_came_to_is_one_of_the_servers_names(serve, tmp_path, free_port):
    """No configuration knows the address of a pod. Addresses of other hosts, and other ports, remain refused."""
    serve(tcp=tcp_settings(tmp_path, free_port, read="read" * 8) | {"listen": f"0.0.0.0:{free_port}"})
    verify = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    verify.check_hostname = False
    with httpx.Client(verify=verify, base_url=f"https://127.0.0.7:{free_port}", timeout=60) as client:
        client.headers["authorization"] = f"Bearer {'read' * 8}"
        assert client.get("/v1/status").status_code == 200
        for other in ("127.0.0.8", "rebound.example"):
            assert client.get("/v1/status", headers={"host": f"{other}:{free_port}"}).status_code == 403


HOLD = """
import json, os, socket, sys
path, user, group, number, text = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
os.chdir(os.path.dirname(path))
os.setgroups([group]); os.setgid(user); os.setuid(user)
held = []
for _ in range(number):
    sock = socket.socket(socket.AF_UNIX); sock.connect(os.path.basename(path)); sock.sendall(text.encode()); sock.settimeout(60)
    sock.recv(100)
    held.append(sock)
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(path: Path, number: int, text: str, user: int = 61_003) -> Iterator[None]:
    """Run a process of another user, in `READERS`, that sends this text on several connections. mom has begun to answer each of them."""
    path.parent.chmod(0o755)
    command = [sys.executable, "-c", HOLD, str(path), str(user), str(READERS), str(number), text]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"\n"
            yield
        finally:
            child.kill()


HALF_SENT = (
    "POST /v1/policy-check HTTP/1.1\r\nhost: mom\r\nexpect: 100-continue\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
)
LISTEN = "GET /v1/events HTTP/1.1\r\nhost: mom\r\n\r\n"


@as_another_user
@pytest.mark.usefixtures("groups")
@pytest.mark.parametrize("text", [HALF_SENT, LISTEN], ids=["half sent", "listens"])
def test_a_reader_with_all_connections_keeps_no_other_user_out(serve, text, monkeypatch):
    monkeypatch.setattr("mom_plugins_http.server.server.MOST_CLIENTS", 8)
    patient(monkeypatch, 60)
    served = serve(read_group="readers")
    with holding(served.path, 8, text):
        assert ask(served.path, [READERS])[0] == 200
        assert served.get("/v1/whoami")["right"] == "change"
