"""What an operator mistypes never reaches the servers."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mom_core import DestinationError, MomError
from mom_plugins_fleet.records import Lease
from mom_plugins_fleet.verbs import _holder, fleet

NOBODY = ["--server", "nats://localhost:1"]


@pytest.mark.parametrize("name", ["*", ">", "h1 x", "h1\n", "../x", "H1", "", "a" * 64, "ü"])
@pytest.mark.parametrize(
    "command", [["remove"], ["drain"], ["policy", "show"], ["classes", "show"], ["classes", "remove"], ["enroll", "--group", "g1"]]
)
def test_a_pattern_or_a_typing_error_is_no_name(command: list[str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unasked:
        async def read(self, *_: object) -> None:
            raise AssertionError("the servers were asked")

    def ask(_self: object, what: object) -> object:
        import asyncio

        return asyncio.run(what(Unasked()))  # type: ignore[operator]  # it is what the command does with a store

    monkeypatch.setattr("mom_plugins_fleet.verbs.Where.ask", ask)
    done = CliRunner().invoke(fleet, [*NOBODY, *command, "--", name])
    assert isinstance(done.exception, MomError)
    assert "is no name of a host or group" in done.exception.message


@pytest.mark.parametrize(
    "address",
    [
        "h2",
        "x\ny",
        "qemu+tls://h 2/system",
        "qemu+tls://h2/system\n",
        "-oProxyCommand=x",
        "qemu+ext:///system?command=/tmp/evil.sh",
        "qemu+tls://h2/system?no_verify=1",
        "",
    ],
)
def test_an_address_that_is_none_is_refused_before_a_key_is_made(tmp_path: Path, address: str) -> None:
    key = tmp_path / "h2.key"
    done = CliRunner().invoke(fleet, [*NOBODY, "enroll", "h2", "--group", "g1", f"--address={address}", "--new-key", str(key)])
    assert isinstance(done.exception, DestinationError)
    assert not key.exists()


def test_a_lease_that_cannot_be_read_does_not_hide_the_hosts() -> None:
    assert _holder(None) == ""
    assert _holder(Lease(holder="c1").packed()) == "c1"
    assert _holder(b"\xff{") == "somebody whose lease cannot be read"
