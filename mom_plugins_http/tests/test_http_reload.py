"""Reloads while mom serves: a moved socket, TCP on and off, a renewed certificate, without disconnecting clients."""

import shutil
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from http_over_tcp import certificate, tcp_settings
from served_mom import Serve, Served
from unix_clients import client_of

from mom_core import Config, MomError
from mom_devkit import config_of, wait_until
from mom_kvm import PolicyState, PolicyTexts
from mom_plugins_http.cli.client import Client


def changed(served: Served, plugins: Mapping[str, Any] | None = None, **http: object) -> Config:
    usual = {"sim": {}, "balloon": {}, "ksm": {}, "policy": {}, "http": http}
    return config_of(served.engine.config.state_directory.parent, {**usual, **(plugins or {})}, interval=3600.0)


def assert_answers(path: Path) -> None:
    """Wait until a server answers at the path."""

    def asked() -> bool:
        with suppress(MomError):
            return bool(Client(path, 60).get("/v1/whoami"))
        return False

    wait_until(asked)


def over_tcp(port: int, ca: Path) -> httpx.Client:
    """Return a client with the token to read."""
    headers, verify = {"authorization": "Bearer " + "read" * 8}, ssl.create_default_context(cafile=str(ca))
    return httpx.Client(base_url=f"https://127.0.0.1:{port}", headers=headers, verify=verify, timeout=60)


def status_over_tcp(port: int, ca: Path) -> int:
    with over_tcp(port, ca) as client:
        return client.get("/v1/whoami").status_code


def shown_certificate(port: int) -> bytes:
    """Return the server's certificate for a new client, as DER."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 60) as sock, context.wrap_socket(sock) as tls:
        found = tls.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_a_socket_moves_and_nothing_is_left_where_it_was(served: Served, tmp_path: Path) -> None:
    new = tmp_path / "other.sock"
    served.engine.reload(changed(served, socket=str(new)))
    assert_answers(new)
    assert not served.path.exists()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (False, "these policies are no longer in force: the change was not made"),
        (True, "mom was reloaded meanwhile: this change may or may not be in force"),
    ],
)
def test_a_change_of_policies_that_a_reload_overtakes_is_not_told_as_made_and_does_not_come_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, made: bool, said: str
) -> None:
    served = serve(plugins={"policy": {"keep_changes": True}})
    texts = served.engine.service(PolicyTexts)
    assert texts is not None
    under_way, goes_on, change = Event(), Event(), texts.change

    def slow(*given: Any, **more: Any) -> PolicyState:
        state = change(*given, **more) if made else None
        under_way.set()
        assert goes_on.wait(60)
        return state or change(*given, **more)

    monkeypatch.setattr(texts, "change", slow)
    with ThreadPoolExecutor(2) as pool, client_of(served.path) as another:
        overtaken = pool.submit(served.put, "60_overtaken")
        assert under_way.wait(60)
        later = pool.submit(replace(served, client=another).put, "70_later")
        wait_until(lambda: served.service._worker.room.left == 62)
        served.engine.reload(changed(served, {"policy": {"ignore": ["other"]}}))
        goes_on.set()
        assert (overtaken.result(60).status_code, overtaken.result(60).json()["detail"]) == (409, said)
        assert later.result(60).status_code == 200
    served.engine.cycle()
    assert [one["name"] for one in served.get("/v1/policies")["items"]] == ["40_ksm", "50_balloon", "70_later"]
    assert not (served.engine.config.state_directory / "policy/changes.json").exists(), "the new settings keep nothing"


def test_tcp_comes_and_goes(served: Served, tmp_path: Path, free_port: int) -> None:
    tcp = tcp_settings(tmp_path, free_port, read="read" * 8)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", free_port), 60)
    served.engine.reload(changed(served, tcp=tcp))
    assert_answers(served.path)
    assert status_over_tcp(free_port, tmp_path / "cert.pem") == 200
    served.engine.reload(changed(served))
    assert_answers(served.path)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", free_port), 60)


def test_a_refused_reload_leaves_the_server_as_it_was(served: Served, tmp_path: Path, free_port: int) -> None:
    wrong = {**tcp_settings(tmp_path, free_port, read="read" * 8), "certificate": "/none.pem"}
    with pytest.raises(MomError, match="certificate"):
        served.engine.reload(changed(served, tcp=wrong))
    assert served.get("/v1/status")["cycle"]["number"] == 1
    assert_answers(served.path)


def test_a_renewed_certificate_is_shown_without_a_restart(serve: Serve, tmp_path: Path, free_port: int) -> None:
    served = serve(tcp=tcp_settings(tmp_path, free_port, read="read" * 8))
    before = shown_certificate(free_port)
    # An existing connection continues. A new one sees the new certificate.
    with over_tcp(free_port, tmp_path / "cert.pem") as kept:
        assert kept.get("/v1/whoami").status_code == 200
        certificate(tmp_path)
        served.engine.reload(served.engine.config)
        assert kept.get("/v1/whoami").status_code == 200
    renewed = shown_certificate(free_port)
    assert renewed != before
    assert status_over_tcp(free_port, tmp_path / "cert.pem") == 200
    (other := tmp_path / "other").mkdir()
    shutil.copy(certificate(other)[1], tmp_path / "key.pem")
    with pytest.raises(MomError, match="cannot be used"):
        served.engine.reload(served.engine.config)
    assert shown_certificate(free_port) == renewed, "one that does not fit its key is refused"


def test_a_renewed_token_counts_from_then_on_and_ends_streams_of_the_old_one(serve: Serve, tmp_path: Path, free_port: int) -> None:
    served = serve(tcp=tcp_settings(tmp_path, free_port, read="read" * 8))
    with over_tcp(free_port, tmp_path / "cert.pem") as client, client.stream("GET", "/v1/events") as stream:
        lines = stream.iter_lines()
        assert any(line == "event: cycle" for line in lines)
        (tmp_path / "read").write_text("other" * 8)
        served.engine.reload(served.engine.config)
        served.engine.cycle()
        assert not any(line.startswith("event: cycle") for line in lines)
    assert status_over_tcp(free_port, tmp_path / "cert.pem") == 401
