"""The fleet's accounts, in the form in which NATS servers take them while they run: JSON Web Tokens, signed by the fleet's root key.

Each host has an account of its own, into which only its own keys are let. Permissions alone would not do: a server answers to whatever
subject a client names for the answer, without asking whether that client may write there. In the account of the buckets an answer could be
had sent to another host's key, which would hold then what the first one likes.

The form is that of github.com/nats-io/jwt, version 2.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import nkeys  # type: ignore[import-untyped]  # it has no types
from pydantic import TypeAdapter, ValidationError

from mom_core import MomError, printable, read_secret
from mom_plugins_fleet.link import NatsCredentials, Store
from mom_plugins_fleet.subjects import heard, inbox, used

FLEET_ACCOUNT: Final = "MOM"
"""The name of the account of the buckets, operators and coordinators."""

_UNLIMITED: Final = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
_OF_A_HOST: Final = {**_UNLIMITED, "conn": 8, "leaf": 0, "exports": 0}
"""A host connects once; eight times while one that is gone is not missed yet."""

_STORAGE: Final = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}

USER: Final[int] = nkeys.PREFIX_BYTE_USER

_UPDATE: Final = "$SYS.REQ.CLAIMS.UPDATE"
_ANSWER_SECONDS: Final = 5.0

_LAST: Final = 253_402_300_799
"""The end of the year 9999. An account that has ended is issued then: of two, servers keep the newer one, and of two of one second either.
One of them that was away would bring the host back."""

SYNC_SECONDS: Final = 10
"""How often servers compare their accounts, by one checksum: for so long one that was away may let a host in that was put out meanwhile."""


@dataclass(frozen=True, slots=True)
class RootFile:
    """The content of the file with the root key: seeds, and the keys that were revoked with when, in seconds since the epoch."""

    operator: str
    system: str
    fleet: str
    revoked: Mapping[str, int] = field(default_factory=dict)


_FORM: Final = TypeAdapter(RootFile)


class FleetRoot:
    """The root key of a fleet: it makes accounts, which servers take, and users, which are let into them.

    :param path: its file, which other users may not read
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._kept = _FORM.validate_json(read_secret(path, "the fleet's root key", "`mom fleet root` makes one"))
            self._operator, self._system, self._fleet = (_pair(one) for one in (self._kept.operator, self._kept.system, self._kept.fleet))
        except (ValidationError, ValueError, nkeys.NkeysError):
            raise MomError(f"{path} holds no root key of a fleet", hint="`mom fleet root` makes one") from None

    @staticmethod
    def make(path: Path) -> None:
        """A new one, where no file is yet. Raises `MomError`."""
        operator, system, fleet = map(new_seed, (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_ACCOUNT))
        write_secret(path, _FORM.dump_json(RootFile(operator, system, fleet)))

    def server_config(self, folder: str) -> str:
        """The part of the servers' configuration that knows the root key. It changes only when a key of an operator is revoked.

        :param folder: where a server keeps the accounts that it was given
        """
        system = self._account(_public(self._system), "SYS", {"limits": _UNLIMITED}, None)
        claims = {"type": "operator", "version": 2, "system_account": _public(self._system)}
        return "\n".join(
            [
                f"operator: {_jwt(self._operator, _public(self._operator), 'mom', claims)}",
                f"system_account: {_public(self._system)}",
                f'resolver: {{ type: full, dir: "{folder}", interval: "{SYNC_SECONDS}s" }}',
                "resolver_preload: {",
                f"  {_public(self._system)}: {system}",
                f"  {_public(self._fleet)}: {self.fleet_account()}",
                "}",
                "",
            ]
        )

    def fleet_account(self) -> str:
        """The account of the buckets: what of it may be let into hosts' accounts, and whose keys are let in no more."""
        exports = [_share("service", one) for one in used("*", "*")] + [_share("stream", one) for one in heard("*", "*")]
        more = {"revocations": dict(self._kept.revoked)} if self._kept.revoked else {}
        claims = {"limits": _UNLIMITED | _STORAGE, "exports": exports, **more}
        at = int(time.time()) + len(self._kept.revoked)  # when two are revoked in one second, the account with both is the newer one
        return self._account(_public(self._fleet), FLEET_ACCOUNT, claims, at)

    def host_account(self, account: str, host: str, group: str, revision: int) -> str:
        """A host's account: its own keys, and its group's, and no others.

        :param revision: what the host's entry has, or will have at least: servers keep the newest
        """
        of_fleet = {"account": _public(self._fleet)}
        imports = [_share("service", one) | of_fleet for one in used(host, group)]
        imports += [_share("stream", one) | of_fleet for one in heard(host, group)]
        return self._account(account, f"{FLEET_ACCOUNT}-{host}", {"limits": _OF_A_HOST, "imports": imports}, revision)

    def operator(self, key: str, name: str) -> NatsCredentials:
        """Let an operator or a coordinator, who signs with that public key, into the account of the buckets.

        What connects is another key: servers choose what it signs. It is made of the root key and of the one that signs, so that the root
        knows it when that one is revoked."""
        seed = self._connects(key)
        return NatsCredentials(seed, _jwt(self._fleet, _public(_pair(seed)), name, _USER))

    def _connects(self, key: str) -> str:
        raw = hmac.digest(self._kept.fleet.encode(), b"mom fleet connects\n" + key.encode(), "sha256")
        return str(nkeys.encode_seed(raw, USER).decode())

    def revoke(self, key: str) -> None:
        """Let that key in no more: kept in the file, and for `fleet_account`. Raises `MomError`."""
        # Both: the one that signs connects nowhere, unless its owner has made credentials of it.
        revoked = dict.fromkeys((key, _public(_pair(self._connects(key)))), int(time.time()))
        kept = RootFile(self._kept.operator, self._kept.system, self._kept.fleet, {**self._kept.revoked, **revoked})
        new = self._path.with_name(f".{self._path.name}.new")
        new.unlink(missing_ok=True)
        write_secret(new, _FORM.dump_json(kept))
        new.replace(self._path)
        self._kept = kept

    def system_user(self) -> NatsCredentials:
        """A user who may give accounts to the servers."""
        seed = new_seed(nkeys.PREFIX_BYTE_USER)
        return NatsCredentials(seed, _jwt(self._system, _public(_pair(seed)), "mom fleet", _USER))

    async def give(self, store: Store, *accounts: str) -> None:
        """Give accounts to the servers, which take them at once. Raises `MomError`."""
        for one in accounts:
            await _said(store, _UPDATE, one)

    async def take(self, store: Store, account: str) -> None:
        """Let no key into an account any more, for good: who is connected by it is not any more. Raises `MomError`.

        It is not deleted: a server that is away would still have it when it is back, and give it to the others again.
        """
        ended = {"limits": {**_OF_A_HOST, "conn": 0}, "revocations": {"*": _LAST}}
        await _said(store, _UPDATE, self._account(account, f"{FLEET_ACCOUNT}-ended", ended, _LAST))

    def _account(self, account: str, name: str, claims: Mapping[str, Any], at: int | None) -> str:
        return _jwt(self._operator, account, name, {"type": "account", "version": 2, **claims}, at)


_USER: Final = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}


def host_credentials(host: str) -> tuple[str, NatsCredentials]:
    """A host's new account, and the credentials by which it is let in: the account's own key is not needed any more, and is forgotten."""
    account, seed = _pair(new_seed(nkeys.PREFIX_BYTE_ACCOUNT)), new_seed(nkeys.PREFIX_BYTE_USER)
    # The account holds it to its own; these have servers say what they refuse. Which group is its own may change.
    may = {"pub": {"allow": used(host, "*")}, "sub": {"allow": [*heard(host, "*"), f"{inbox(host)}.>"]}}
    return _public(account), NatsCredentials(seed, _jwt(account, _public(_pair(seed)), host, _USER | may))


def new_seed(kind: int) -> str:
    """Of a new key of that kind."""
    return str(nkeys.encode_seed(os.urandom(32), kind).decode())


def write_secret(path: Path, data: bytes) -> None:
    """A new file that other users may not read. Raises `MomError` when there is one already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise MomError(f"the key {path} cannot be made: {error.strerror}", hint="name a file that is not there yet") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data + b"\n")


async def _said(store: Store, subject: str, claims: str) -> None:
    answer = await store.request(subject, claims.encode(), _ANSWER_SECONDS)
    try:
        found = json.loads(answer)
        error = found.get("error") or ({} if found.get("data", {}).get("code") == 200 else found)
    except (ValueError, AttributeError):
        error = {"description": "an answer that makes no sense"}
    if error:
        raise MomError(f"the servers do not take that account: {printable(str(error.get('description', error)), 300)}")


def _share(kind: str, subject: str) -> dict[str, str]:
    return {"name": subject, "subject": subject, "type": kind}


def _pair(seed: str) -> Any:
    return nkeys.from_seed(bytearray(seed.encode()))


def _public(pair: Any) -> str:
    return str(pair.public_key.decode())


def _jwt(issuer: Any, subject: str, name: str, claims: Mapping[str, Any], at: int | None = None) -> str:
    """A token.

    :param at: when it is issued, in seconds since the epoch; None: now
    """
    body = {"iat": int(time.time()) if at is None else at, "iss": _public(issuer), "name": name, "sub": subject, "nats": claims}
    digest = hashlib.new("sha512_256", _compact(body)).digest()
    body["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    text = f"{_base64(_compact(head))}.{_base64(_compact(body))}"
    return f"{text}.{_base64(issuer.sign(text.encode()))}"


def _compact(value: Mapping[str, Any] | Collection[Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
