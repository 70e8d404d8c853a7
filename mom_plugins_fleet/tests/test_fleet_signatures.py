"""Signed records of operators and coordinators, and forged, changed, moved or replayed records."""

import base64
import json
import os
from pathlib import Path

import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest

from mom_core import MomError, PluginContext
from mom_kvm import Destination
from mom_plugins_fleet.buckets import GROUPS
from mom_plugins_fleet.records import FleetRecord, Group, Member, Move, Orders
from mom_plugins_fleet.signatures import FILE, FORM, LOSS, WHAT, SeenRevisions, Signer, opened

MOVE = Move(guest="g", name="web", to="h2", destination=Destination.parse("qemu+tls://h2/system"), takes=1024, number=1, order=7)


def new_signer() -> Signer:
    return Signer(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode())


def revisions(folder: Path) -> SeenRevisions:
    one = SeenRevisions(PluginContext(name="fleet", state_directory=folder).state_file(FILE, WHAT, FORM, loss=LOSS))
    one.load()
    return one


def test_what_a_server_has_signed_to_let_a_client_in_is_no_signature_of_a_record() -> None:
    pair = nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)))
    by, record = pair.public_key.decode(), Group().packed()
    nonce = json.dumps(["mom fleet", GROUPS, "g", 7]) + "\n" + record.decode()  # the signed text's form
    header = {"by": by, "revision": 7, "signature": base64.b64encode(pair.sign(nonce.encode())).decode()}
    with pytest.raises(MomError, match="its signature was not made with"):
        opened(Group, "g", json.dumps(header).encode() + b"\n" + record, {by})


@pytest.mark.parametrize(("kind", "key"), [(Orders, "h2"), (Member, "h1")])
def test_a_signature_is_for_one_key_of_one_bucket(kind: type[FleetRecord], key: str) -> None:
    signer = new_signer()
    with pytest.raises(MomError, match="its signature was not made with"):
        opened(kind, key, signer.signed("h1", Orders(epoch=1), 7), {signer.public})


@pytest.mark.parametrize(
    ("before", "after"), [(b'"revision":7', b'"revision":8'), (b"qemu+tls://h2", b"qemu+tls://h3"), (b"1024", b"1025")]
)
def test_a_change_of_one_byte_breaks_the_signature(before: bytes, after: bytes) -> None:
    signer = new_signer()
    data = signer.signed("h1", Orders(epoch=1, moves=(MOVE,)), 7)
    assert before in data
    with pytest.raises(MomError, match="its signature was not made with"):
        opened(Orders, "h1", data.replace(before, after), {signer.public})


def test_the_name_of_a_trusted_key_on_anothers_signature_is_of_no_use() -> None:
    signer, thief = new_signer(), new_signer()
    data = thief.signed("g", Group(), 9).replace(thief.public.encode(), signer.public.encode())
    with pytest.raises(MomError, match="its signature was not made with"):
        opened(Group, "g", data, {signer.public})


TRUSTED = Signer("SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY").public
UNSIGNED = [b"", b"{}\n{}", b"x" * 10_000 + b"\n{}", b"\xff\n\xff", b"\n" * 10**6]
SIGNATURES = [("U", ""), *((key, "A" * 88) for key in (TRUSTED, "U" + "A" * 55, "U" + "7" * 55))]
SIGNATURES += [(TRUSTED, text) for text in ("", "AAAA", "é", "A" * 99)]


@pytest.mark.parametrize(
    "data", [*UNSIGNED, *(f'{{"by":"{by}","revision":1,"signature":"{text}"}}\n{{}}'.encode() for by, text in SIGNATURES)]
)
def test_nonsense_is_not_signed_also_where_a_trusted_key_is_none(data: bytes) -> None:
    with pytest.raises(MomError):
        opened(Group, "g", data, {by for by, _ in SIGNATURES})


def test_a_host_takes_nothing_that_is_older_than_what_it_has_used_also_after_a_restart(tmp_path: Path) -> None:
    operator = new_signer()
    old, new = (operator.signed("h1", Member(group=group), revision) for group, revision in (("old", 5), ("new", 6)))
    host = revisions(tmp_path)
    for data, group in ((old, "old"), (old, "old"), (new, "new")):
        assert host.open(Member, "h1", data, {operator.public}).record.group == group
    host.save()
    for later in (host, revisions(tmp_path)):
        with pytest.raises(MomError, match="its revision 5 is older than revision 6"):
            later.open(Member, "h1", old, {operator.public})
        assert later.open(Member, "h1", new, {operator.public}).record.group == "new"
        assert later.open(Member, "h2", operator.signed("h2", Member(group="g"), 1), {operator.public})


def test_a_stolen_key_cannot_sign_the_last_revision_there_is(tmp_path: Path) -> None:
    stolen = new_signer()
    last = stolen.signed("h1", Member(group="evil"), (1 << 62) - 1)
    with pytest.raises(MomError, match="ahead of the clock"):
        revisions(tmp_path).open(Member, "h1", last, {stolen.public})
