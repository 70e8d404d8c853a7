"""Tokens for servers. tests/fleet uses them with real servers."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest

from mom_core import MomError
from mom_plugins_fleet.accounts import USER, FleetRoot, new_seed, write_secret
from mom_plugins_fleet.client import Access
from mom_plugins_fleet.signatures import Signer, next_revision


@pytest.fixture
def root(tmp_path: Path) -> FleetRoot:
    FleetRoot.make(tmp_path / "root.key")
    return FleetRoot(tmp_path / "root.key")


def claims(text: str) -> dict[str, Any]:
    """Return the claims of a token, alone or in credentials, after checking its signature."""
    jwt = next(word for word in text.split() if word.count(".") == 2)
    head, body, signature = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in jwt.split("."))
    found: dict[str, Any] = json.loads(body)
    issuer = base64.b32decode(found["iss"] + "=" * (-len(found["iss"]) % 8))[1:33]
    nkeys.nacl.signing.VerifyKey(issuer).verify(jwt.rpartition(".")[0].encode(), signature)
    assert json.loads(head) == {"typ": "JWT", "alg": "ed25519-nkey"}
    return found


def seed(credentials: str) -> str:
    return next(word for word in credentials.split() if word.startswith("SU"))


def subjects(account: dict[str, Any]) -> set[str]:
    return {one["subject"] for one in account["nats"]["imports"]}


def test_a_hosts_account_has_its_own_keys_and_its_groups_and_no_others(root: FleetRoot) -> None:
    found = claims(root.host_account("h1", "g1", 1, 1))
    assert found["sub"] == claims(root.host_credentials("h1", 1))["iss"]
    written = {one["subject"] for one in found["nats"]["imports"] if one["type"] == "service" and "DIRECT.GET" not in one["subject"]}
    assert written == {"$KV.mom-states.h1"}
    other = claims(root.host_account("h2", "g2", 1, 1))
    assert subjects(found) & subjects(other) == {one for one in subjects(found) if "mom-authorized" in one}
    assert not any("*" in one or ">" in one for one in subjects(found))
    assert "streams" not in found["nats"]["limits"], "it has no storage of its own"


def test_a_key_that_was_revoked_is_also_not_let_in_by_the_next_root_of_the_file(root: FleetRoot, tmp_path: Path) -> None:
    key = Signer(new_seed(USER)).public
    assert "revocations" not in claims(root.fleet_account())["nats"]
    connects = claims(root.operator(key))["sub"]
    root.revoke(key)
    for one in (root, FleetRoot(tmp_path / "root.key")):
        revocations = claims(one.fleet_account())["nats"]["revocations"]
        assert revocations.keys() == {key, connects}
        assert min(revocations.values()) > time.time() + 3e9, "by any clock"  # servers accept tokens issued after that
    assert (tmp_path / "root.key").stat().st_mode & 0o077 == 0


def test_of_two_accounts_servers_keep_the_right_one_whatever_clocks_say(root: FleetRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    year_9000 = next_revision(221_845_392_000)
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    first = claims(root.host_account("h1", "g1", 1, year_9000))
    second = claims(root.host_account("h1", "g2", 1, next_revision(year_9000)))
    assert second["iat"] > first["iat"], "it has another group since"
    ended = claims(root.ended("h1", next_revision(year_9000)))
    assert ended["sub"] == first["sub"] == second["sub"]
    assert ended["iat"] > second["iat"], "it is put out"
    for now in (1_800_000_000.0, 0.0):
        before = claims(root.fleet_account())["iat"]
        monkeypatch.setattr(time, "time", lambda now=now: now)
        root.revoke(Signer(new_seed(USER)).public)
        assert claims(root.fleet_account())["iat"] > before, "an operator's key is revoked"


def test_an_operator_signs_with_another_key_than_that_with_which_servers_have_their_nonces_signed(root: FleetRoot) -> None:
    key = Signer(new_seed(USER)).public
    connects = root.operator(key)
    assert claims(connects)["sub"] != key
    assert seed(root.operator(key)) == seed(connects), "the root key knows it when the other one is revoked"


def test_the_servers_configuration_holds_no_secret(root: FleetRoot, tmp_path: Path) -> None:
    text = root.server_config()
    for seed in json.loads((tmp_path / "root.key").read_text()).values():
        assert not seed or seed not in text


@pytest.mark.parametrize("text", ["", "{}", "SUAB", '{"operator": "x", "system": "y", "fleet": "z"}', "[" * 5000])
def test_a_file_that_holds_no_root_key_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "root.key").touch(0o600)
    (tmp_path / "root.key").write_text(text)
    with pytest.raises(MomError, match="contains no root key"):
        FleetRoot(tmp_path / "root.key")


def test_credentials_are_read_from_a_secret_file_and_nonsense_is_refused(root: FleetRoot, tmp_path: Path) -> None:
    file = tmp_path / "h1.key"
    write_secret(file, root.host_credentials("h1", 1).encode())
    assert Access([], None, file).options() == {"user_credentials": str(file)}
    with pytest.raises(MomError, match="cannot create the key file"):
        write_secret(file, b"")
    file.write_text("x")
    with pytest.raises(MomError, match="contains no NATS credentials"):
        Access([], None, file).options()
    file.chmod(0o644)
    with pytest.raises(MomError, match="is not secret"):
        Access([], None, file).options()
