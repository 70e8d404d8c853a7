"""NATS accounts of the fleet: JSON Web Tokens signed with its root key (github.com/nats-io/jwt, version 2).

Each host has its own account. In a shared account, a host could overwrite another's record by requesting a reply to the record's
subject.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import nkeys  # type: ignore[import-untyped]  # untyped library
from pydantic import TypeAdapter, ValidationError

from mom_core import MomError, printable, read_secret, replace_file
from mom_plugins_fleet.buckets import heard, inbox, used
from mom_plugins_fleet.link import Store

FLEET_ACCOUNT: Final = "MOM"

_UNLIMITED: Final = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
_OF_A_HOST: Final = {**_UNLIMITED, "conn": 8, "leaf": 0, "exports": 0}
"""Limits of a host's account. A host needs one connection, but servers may still count lost ones."""

_STORAGE: Final = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}

USER: Final[int] = nkeys.PREFIX_BYTE_USER
ACCOUNT: Final[int] = nkeys.PREFIX_BYTE_ACCOUNT

_UPDATE: Final = "$SYS.REQ.CLAIMS.UPDATE"

_LAST: Final = 253_402_300_799
"""End of the year 9999. Servers keep the newest account, so an account with this time is final."""

_STEP: Final = 50 * 365 * 86_400

SYNC_SECONDS: Final = 10
"""Seconds between two comparisons of servers' accounts. A server that was offline may admit a removed host until the next comparison."""


@dataclass(frozen=True, slots=True)
class RootFile:
    """File of the root key. `revoked`: time of revocation in seconds since the epoch, keyed by public key."""

    operator: str
    system: str
    fleet: str
    revoked: Mapping[str, int] = field(default_factory=dict)


_FORM: Final = TypeAdapter(RootFile)


class FleetRoot:
    """Root key, which signs accounts and users."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._kept = _FORM.validate_json(read_secret(path, "the fleet's root key", "`mom fleet init` makes one"))
            self._operator, self._system, self._fleet = (pair(seed) for seed in (self._kept.operator, self._kept.system, self._kept.fleet))
        except (ValidationError, ValueError, nkeys.NkeysError):
            raise MomError(f"{path} contains no root key of a fleet", hint="`mom fleet init` makes one") from None

    @staticmethod
    def make(path: Path) -> None:
        """Create the file. Raise `MomError` if it exists."""
        operator, system, fleet = map(new_seed, (nkeys.PREFIX_BYTE_OPERATOR, ACCOUNT, ACCOUNT))
        write_secret(path, _FORM.dump_json(RootFile(operator, system, fleet)))

    def server_config(self) -> str:
        """Return the accounts for the server configuration."""
        system = self._account(public(self._system), "SYS", {"limits": _UNLIMITED}, None)
        claims = {"type": "operator", "version": 2, "system_account": public(self._system)}
        preloaded = f"  {public(self._system)}: {system}\n  {public(self._fleet)}: {self.fleet_account()}\n"
        operator = _jwt(self._operator, public(self._operator), "mom", claims)
        return f"operator: {operator}\nsystem_account: {public(self._system)}\nresolver_preload: {{\n{preloaded}}}\n"

    def fleet_account(self) -> str:
        """Return the signed account that owns the buckets."""
        exports = [_share("service", subject) for subject in used("*", "*")] + [_share("stream", subject) for subject in heard("*", "*")]
        # Servers refuse tokens issued before this time. With the present time, a server whose clock is behind would admit the key.
        more = {"revocations": dict.fromkeys(self._kept.revoked, _LAST)} if self._kept.revoked else {}
        claims = {"limits": _UNLIMITED | _STORAGE, "exports": exports, **more}
        at = min(_LAST, int(time.time()) + _STEP * len(self._kept.revoked))  # each revocation makes the account newer
        return self._account(public(self._fleet), FLEET_ACCOUNT, claims, at)

    def host_account(self, host: str, group: str, key_issued: int, revision: int) -> str:
        """Return a host's account, which refuses keys that were issued before `key_issued`.

        :param revision: revision of the host's entry; servers keep the newest account
        """
        of_fleet = {"account": public(self._fleet)}
        imports = [_share("service", subject) | of_fleet for subject in used(host, group)]
        imports += [_share("stream", subject) | of_fleet for subject in heard(host, group)]
        claims = {"limits": _OF_A_HOST, "imports": imports, "revocations": {"*": key_issued - 1}}
        return self._account(public(self.host_keys(host)), f"{FLEET_ACCOUNT}-{host}", claims, revision)

    def host_keys(self, host: str) -> Any:
        """Return the key pair of a host's account, derived from the root key."""
        return pair(self._derived("account of the host " + host, ACCOUNT))

    def host_credentials(self, host: str, issued: int) -> str:
        """Return new NATS credentials of a host. `issued` is in seconds since the epoch."""
        # These permissions make servers report a refusal. `*`: the host's group may change.
        may = {"pub": {"allow": used(host, "*")}, "sub": {"allow": [*heard(host, "*"), f"{inbox(host)}.>"]}}
        return _credentials(self.host_keys(host), new_seed(USER), host, may, issued)

    def operator(self, key: str) -> str:
        """Return NATS credentials of an operator or coordinator.

        They contain a second key, derived from `key`, because servers choose the strings that a connecting key signs.
        """
        return _credentials(self._fleet, self._connects(key), "operator")

    def _connects(self, key: str) -> str:
        return self._derived("connects\n" + key, USER)

    def _derived(self, purpose: str, kind: int) -> str:
        return seed_of(hmac.digest(self._kept.fleet.encode(), b"mom fleet " + purpose.encode(), "sha256"), kind)

    def revoke(self, key: str) -> None:
        """Revoke a key in the file and in `fleet_account`."""
        # Also revoke the signing key: its owner may have made credentials from it.
        revoked = dict.fromkeys((key, public(pair(self._connects(key)))), int(time.time()))
        kept = replace(self._kept, revoked={**self._kept.revoked, **revoked})
        replace_file(self.path, _FORM.dump_json(kept), durable=True, mode=0o600)
        self._kept = kept

    def system_user(self) -> str:
        """Return new NATS credentials that may push accounts."""
        return _credentials(self._system, new_seed(USER), "mom fleet")

    def ended(self, host: str, revision: int) -> str:
        """Return a removed host's account, which allows no connections.

        :param revision: last revision of the host's entry
        """
        claims = {"limits": {**_OF_A_HOST, "conn": 0}, "revocations": {"*": _LAST}}
        return self._account(public(self.host_keys(host)), f"{FLEET_ACCOUNT}-ended", claims, revision + 1)

    def _account(self, account: str, name: str, claims: Mapping[str, Any], at: int | None) -> str:
        return _jwt(self._operator, account, name, {"type": "account", "version": 2, **claims}, at)


_USER: Final = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}


def resolver(folder: Path) -> str:
    """Return the `resolver` line for nats-server."""
    return f'resolver: {{ type: full, dir: "{folder}", interval: "{SYNC_SECONDS}s" }}\n'


def _credentials(account: Any, seed: str, name: str, may: Mapping[str, Any] | None = None, issued: int | None = None) -> str:
    jwt = _jwt(account, public(pair(seed)), name, {**_USER, **(may or {})}, issued)
    return _section("NATS USER JWT", jwt) + _section("USER NKEY SEED", seed)


def seed_of(secret: bytes, kind: int = USER) -> str:
    """Make a seed from 32 bytes."""
    return str(nkeys.encode_seed(secret, kind).decode())


def new_seed(kind: int) -> str:
    """Make a key, and return its seed."""
    return seed_of(os.urandom(32), kind)


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file that only its owner may read. Raise `MomError` if the file exists."""
    try:
        replace_file(path, data + b"\n", durable=True, mode=0o600, replace=False)
    except OSError as error:
        raise MomError(f"cannot create the key file {path}: {error.strerror}", hint="give the path of a new file") from None


def _section(kind: str, content: str) -> str:
    return f"-----BEGIN {kind}-----\n{content}\n------END {kind}------\n"


async def give(store: Store, *accounts: str) -> None:
    """Push accounts to the servers. Raise `MomError` if they reject an account."""
    for account in accounts:
        answer = await store.request(_UPDATE, account.encode())
        if b'"code":200' not in answer:
            raise MomError(f"the servers reject the account: {printable(answer.decode(errors='replace'), 300)}")


def _share(kind: str, subject: str) -> dict[str, str]:
    return {"name": subject, "subject": subject, "type": kind}


def pair(seed: str) -> Any:
    """Return the key pair of a seed."""
    return nkeys.from_seed(bytearray(seed.encode()))


def public(keys: Any) -> str:
    """Return the public key of a pair."""
    return str(keys.public_key.decode())


def _jwt(issuer: Any, subject: str, name: str, claims: Mapping[str, Any], at: int | None = None) -> str:
    body = {"iat": int(time.time()) if at is None else at, "iss": public(issuer), "name": name, "sub": subject, "nats": claims}
    digest = hashlib.new("sha512_256", _compact(body)).digest()
    body["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    text = f"{_base64(_compact(head))}.{_base64(_compact(body))}"
    return f"{text}.{_base64(issuer.sign(text.encode()))}"


def _compact(value: Mapping[str, Any] | Collection[Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
