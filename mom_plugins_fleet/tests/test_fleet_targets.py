"""Where Prometheus finds the hosts: names are the operator's, and no host is left out silently."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import re
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from mom_core import MomError
from mom_plugins_fleet import fleet_server
from mom_plugins_fleet.fleet_server import AnswerBody, GuardedAddress, serving
from mom_plugins_fleet.records import HostState, Member
from mom_plugins_fleet.targets import discovery, host_targets, metrics
from mom_plugins_fleet.verbs import fleet
from mom_plugins_fleet.view import FleetView
from mom_toolkit import Address, Destination

LOG = logging.getLogger("test")
TOKEN = "read" * 8
FLEET_PAGE = Path(__file__).parents[2] / "docs/fleet.md"


def view_of(**hosts: tuple[Member, HostState | None]) -> FleetView:
    view = FleetView()
    for name, (member, state) in hosts.items():
        view.members.records[name] = (1, member)
        if state is not None:
            view.states.records[name] = (1, state)
    return view


def told(host: str, port: int | None) -> HostState:
    return HostState(host=host, mom="0", mode="enforce", metrics_port=port)


H1 = Destination.parse("qemu+tls://h1.example.org/system")


def test_a_host_is_found_at_its_operators_name_and_its_own_port() -> None:
    found = json.loads(discovery(host_targets(view_of(h1=(Member(group="g", address=H1, draining=True, cordoned=True), told("h1", 8132))))))
    labels = {
        "host": "h1",
        "group": "g",
        "__scheme__": "https",
        "__metrics_path__": "/metrics",
        "__meta_mom_cordoned": "true",
        "__meta_mom_draining": "true",
    }
    assert found == [{"targets": ["h1.example.org:8132"], "labels": labels}]


@pytest.mark.parametrize(
    ("name", "target"),
    [("metrics.h1.example.org", "metrics.h1.example.org:1"), ("2001:db8::7", "[2001:db8::7]:1"), ("192.0.2.7", "192.0.2.7:1")],
)
def test_a_host_is_found_by_the_name_that_it_has_for_prometheus_where_it_has_one(name: str, target: str) -> None:
    (found,) = host_targets(view_of(h1=(Member(group="g", address=H1, metrics_host=name), told("h1", 1))))
    assert found.address == target


@pytest.mark.parametrize("name", ["", "h1:80", "h1/x", "h1 x", "user@h1", "H1", "h1\n", "[::1]", "0x7f000001..", "1.2.3"])
def test_what_no_host_can_be_called_is_no_name_for_prometheus(name: str) -> None:
    with pytest.raises(ValueError, match="metrics_host"):
        Member(group="g", metrics_host=name)


def test_a_host_without_metrics_is_named_with_the_reason_and_scraped_nowhere() -> None:
    view = view_of(
        h1=(Member(group="g", address=H1), told("h1", None)),
        h2=(Member(group="g", address=H1), None),
        h3=(Member(group="g"), told("h3", 8132)),
        h4=(Member(group="g", address=H1), None),
    )
    view.states.damaged["h4"] = "nonsense"
    view.members.damaged["h5"] = "it is not signed"
    found = json.loads(discovery(host_targets(view)))
    assert [one["targets"] for one in found] == [[]] * 5
    whys = {one["labels"]["host"]: one["labels"]["__meta_mom_why"] for one in found}
    for host, why in (("h1", "`tcp`"), ("h2", "nothing yet"), ("h3", "--metrics-host"), ("h4", "nonsense"), ("h5", "not signed")):
        assert why in whys[host]
    families = {one.name: one.samples for one in text_string_to_metric_families(metrics(view, works=True))}
    assert {one.labels["host"] for one in families["mom_fleet_host_without_metrics"]} == set(whys)
    assert families["mom_fleet_hosts"][0].value == 5
    assert families["mom_fleet_coordinates"][0].value == 1
    assert families["mom_fleet_view_current"][0].value == 0


def test_the_document_names_each_metric_of_a_coordinator_and_its_labels() -> None:
    view = view_of(h1=(Member(group="g"), None))
    served = {one.name: set(one.samples[0].labels) for one in text_string_to_metric_families(metrics(view, works=True)) if one.samples}
    written = re.findall(r"^\| `(mom_fleet_\w+)(?:\{(\S+)\})?` \|", FLEET_PAGE.read_text(), re.M)
    assert {name: set(labels.split(",")) - {""} for name, labels in written} == served


def test_a_host_that_has_gone_silent_is_still_scraped_so_that_it_is_missed() -> None:
    view = view_of(h1=(Member(group="g", address=H1), told("h1", 8132)))
    view.heard["h1"] = time.monotonic() - 3600
    (found,) = host_targets(view)
    assert found.address == "h1.example.org:8132"
    assert 'mom_fleet_host_heard{host="h1",group="g"} 0' in metrics(view, works=False)


# --- the server -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(f"{TOKEN}\n")
    return path


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def served(place: GuardedAddress) -> AsyncIterator[int]:
    body = iter(["[]", None])
    answers: dict[str, Callable[[], AnswerBody]] = {
        "/v1/fleet/targets": lambda: AnswerBody(next(body), "application/json"),
        "/large": lambda: AnswerBody("x" * 3_000_000),
    }
    async with serving(place, answers, LOG):
        yield place.address.port


def asked(port: int, path: str, token: str = TOKEN, method: str = "GET", tls: ssl.SSLContext | None = None) -> tuple[int, str, str]:
    if tls is None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    else:
        client = http.client.HTTPSConnection("localhost", port, timeout=30, context=tls)
    client.request(method, path, headers={"Authorization": f"Bearer {token}"})
    answer = client.getresponse()
    return answer.status, answer.getheader("content-type", ""), answer.read().decode()


def on(place: GuardedAddress, *what: Callable[[], object]) -> list[object]:
    async def work() -> list[object]:
        async with served(place):
            return [await asyncio.to_thread(one) for one in what]

    return asyncio.run(asyncio.wait_for(work(), 120))


def test_who_shows_the_token_is_answered_and_no_other(token: Path) -> None:
    port = free_port()
    found = on(
        GuardedAddress(Address.parse(f"127.0.0.1:{port}"), token),
        lambda: asked(port, "/v1/fleet/targets", "wrong" * 8),
        lambda: asked(port, "/v1/fleet/targets", ""),
        lambda: asked(port, "/v1/fleet/targets?x=1"),
        lambda: asked(port, "/v1/fleet/targets"),
        lambda: asked(port, "/elsewhere"),
        lambda: asked(port, "/large", method="POST"),
        lambda: asked(port, "/large", method="HEAD"),
        lambda: len(asked(port, "/large")[2]),
    )
    assert [one[0] if isinstance(one, tuple) else one for one in found] == [401, 401, 200, 503, 404, 405, 200, 3_000_000]
    assert found[2] == (200, "application/json", "[]")
    assert "not known yet" in str(found[3]), "Prometheus keeps what it has"


def test_the_token_may_change_while_it_is_served(token: Path) -> None:
    port = free_port()

    def change() -> None:
        token.write_text("other" * 8)

    found = on(
        GuardedAddress(Address.parse(f"127.0.0.1:{port}"), token),
        change,
        lambda: asked(port, "/large")[0],
        token.unlink,
        lambda: asked(port, "/large")[0],
    )
    assert found[1::2] == [401, 503]


def test_what_is_no_request_or_never_ends_keeps_no_other_from_being_answered(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_server, "REQUEST_SECONDS", 0.5)
    port = free_port()
    silent: list[socket.socket] = []

    def send(data: bytes) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as one,
            suppress(ConnectionError),
        ):  # it hangs up before it has read all
            one.sendall(data)
            return one.recv(1)
        return b""

    def fill() -> None:
        silent.extend(socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(fleet_server.MOST_CLIENTS))
        for one in silent:
            with suppress(ConnectionError):
                assert one.recv(1) == b"", "it is closed when its time is over"
            one.close()

    found = on(
        GuardedAddress(Address.parse(f"127.0.0.1:{port}"), token),
        lambda: send(b"\x16\x03\x01\x00\xff nonsense\r\n\r\n"),
        lambda: send(b"GET / HTTP/1.1\r\nA: " + b"a" * 200_000 + b"\r\n\r\n"),
        fill,
        lambda: asked(port, "/large")[0],
    )
    assert found[0] == b""
    assert found[3] == 200


def test_beyond_this_host_it_is_served_with_a_certificate_only(token: Path, tmp_path: Path) -> None:
    with pytest.raises(MomError, match="other machines could read along"):
        GuardedAddress(Address.parse("0.0.0.0:8133"), token)
    with pytest.raises(MomError, match="or with neither of them"):
        GuardedAddress(Address.parse("0.0.0.0:8133"), token, tmp_path / "cert.pem")
    with pytest.raises(MomError, match="cannot be used"):
        GuardedAddress(Address.parse("0.0.0.0:8133"), token, token, token)
    token.chmod(0o644)
    with pytest.raises(MomError, match="is no secret"):
        GuardedAddress(Address.parse("127.0.0.1:8133"), token)


@pytest.mark.processes
def test_a_certificate_that_is_replaced_is_used_without_a_new_start(token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_server, "RELOAD_SECONDS", 0.05)
    certificate, key, port = tmp_path / "cert.pem", tmp_path / "key.pem", free_port()

    def make() -> ssl.SSLContext:
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", *names]
        subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True, timeout=60)
        return ssl.create_default_context(cafile=str(certificate))

    first = make()

    def renew() -> int:
        second, ends = make(), time.monotonic() + 60
        while True:
            try:
                return asked(port, "/large", tls=second)[0]
            except ssl.SSLError:
                assert time.monotonic() < ends
                time.sleep(0.05)

    place = GuardedAddress(Address.parse(f"localhost:{port}"), token, certificate, key)
    assert on(place, lambda: asked(port, "/large", tls=first)[0], renew) == [200, 200]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--listen", "8133"], "--listen 8133"),
        (["--listen", "127.0.0.1:8133"], "who may ask there"),
        (["--read-token", "x"], "where to listen"),
    ],
)
def test_a_coordinator_says_what_is_missing_before_it_begins(tmp_path: Path, options: list[str], said: str) -> None:
    key = tmp_path / "key"
    CliRunner().invoke(fleet, ["key", str(key)])
    done = CliRunner().invoke(fleet, ["--server", "nats://localhost:1", "--key", str(key), "coordinator", *options])
    assert isinstance(done.exception, MomError)
    assert said in str(done.exception)
