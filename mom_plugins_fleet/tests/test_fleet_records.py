"""Records from servers are checked."""

import contextlib
import json
import time
from pathlib import Path
from typing import get_origin

import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mom_core import MomError, PluginContext, StateFile
from mom_kvm import Destination
from mom_plugins_fleet import FleetPlugin
from mom_plugins_fleet.buckets import StoredEntry
from mom_plugins_fleet.client import Access
from mom_plugins_fleet.records import (
    LARGEST_RECORD,
    MOST_MOVES,
    MOST_TOLD,
    AuthorizedKeys,
    FleetRecord,
    Group,
    HostState,
    Invitation,
    Member,
    Move,
    Orders,
    read,
)
from mom_plugins_fleet.signatures import Opened, Signer
from mom_plugins_fleet.verbs.status import host_rows, print_hosts
from mom_plugins_fleet.view import FleetView


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_are_taken_for_a_record_by_mistake_and_none_break_it(data: bytes) -> None:
    for kind in (Group, HostState, Orders):
        with contextlib.suppress(MomError):
            read(kind, data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"policies": {"60_fleet_a": 1}}',
        b'{"policies": {"50_balloon": ""}}',
        b'{"policies": {"60_fleet_a\\n": ""}}',
        b'{"policies": {}, "policies": []}',
        b"x" * (LARGEST_RECORD + 1),
    ],
)
def test_a_group_that_makes_no_sense_is_refused(data: bytes) -> None:
    with pytest.raises(MomError):
        read(Group, data)


def test_a_host_that_writes_thousands_of_guests_or_moves_does_not_keep_the_coordinator_busy() -> None:
    guests = ", ".join(f'{{"id": "{number}", "name": ""}}' for number in range(MOST_TOLD + 1))
    with pytest.raises(MomError, match="guests"):
        read(HostState, f'{{"host": "h1", "mom": "0", "mode": "enforce", "guests": [{guests}]}}'.encode())
    move = Move(guest="1", name="a", to="h2", destination=Destination.parse("qemu+tls://h2/system"), takes=1, number=1)
    with pytest.raises(MomError, match="moves"):
        read(Orders, Orders(moves=()).model_copy(update={"moves": (move,) * (MOST_MOVES + 1)}).packed())


@pytest.mark.parametrize("kind", [HostState, Invitation, Member, Orders, AuthorizedKeys], ids=lambda kind: kind.__name__)
def test_a_record_is_read_up_to_its_first_invalid_item(kind: type[FleetRecord]) -> None:
    sequences = [name for name, one in kind.model_fields.items() if get_origin(one.annotation) is tuple]
    data = json.dumps({name: [{}] * 10_000 for name in sequences})
    with pytest.raises(ValidationError) as caught:
        kind.model_validate_json(data)
    assert caught.value.error_count() < 50


@pytest.mark.parametrize("field", ["others", "problems", "unhealthy"])
def test_a_host_that_counts_in_thousands_of_digits_is_not_believed_and_all_others_are_shown(field: str) -> None:
    data = f'{{"mode": "enforce", "{field}": {"9" * 4300}, "guests": [{{"id": "a", "name": "a"}}]}}'.encode()
    view = FleetView()
    for host in ("h1", "h2"):
        view.members.records[host] = (1, Member(group="g"))
    view.states.take("h1", StoredEntry(1, data))
    view.states.take("h2", StoredEntry(2, HostState(mode="enforce", others=3).packed()))
    print_hosts(host_rows(view))
    h1, h2 = sorted(host_rows(view), key=lambda row: str(row["host"]))
    assert field in h1["damaged"]
    assert h2["guests"] == 3


def test_a_state_from_a_stranger_counts_for_nothing() -> None:
    view = FleetView()
    view.members.records["h1"] = (1, Member(group="g"))
    state = HostState(mode="enforce")
    view.states.take("h2", StoredEntry(1, state.packed(), time.time()))
    assert not view.is_fresh("h2")
    view.states.take("h1", StoredEntry(1, state.packed(), time.time()))
    assert view.is_fresh("h1")
    view.states.take("h1", StoredEntry(2, b"nonsense"))
    assert "h1" not in view.states.records
    assert not view.is_fresh("h1")


@pytest.mark.parametrize(
    "server",
    [
        "nats://nats.example.org:4222", "http://localhost", "tls://user:secret@host", "tls://h:x", "nats://local\thost",
    ],
)  # fmt: skip
def test_a_server_that_would_be_spoken_to_in_the_clear_is_refused(server: str) -> None:
    with pytest.raises(MomError):
        Access([server])
    with pytest.raises(ValueError, match="servers"):
        FleetPlugin.Settings(servers=[server], host="h1")


@pytest.mark.parametrize("uri", [" qemu+ext:///system?command=/tmp/evil.sh", "qemu+tls://h2/system?no_verify=1", "h2", ""])
def test_a_record_holds_no_destination_that_could_run_programs_or_hide_who_answers(uri: str) -> None:
    move = {"guest": "g", "name": "g", "to": "h2", "destination": uri, "takes": 1, "number": 1}
    with pytest.raises(MomError, match=r"moves\.0\.destination"):
        read(Orders, json.dumps({"moves": [move]}).encode())
    with pytest.raises(MomError, match="address"):
        read(Member, json.dumps({"group": "g", "address": uri}).encode())


def test_the_last_policies_are_remembered_and_a_damaged_file_is_nothing_and_is_said(tmp_path: Path) -> None:
    context = PluginContext(name="fleet", state_directory=tmp_path)
    operator = Signer(nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER).decode())
    settings = FleetPlugin.Settings(servers=["nats://localhost:1"], host="h1", operators=[operator.public])
    plugin = FleetPlugin(settings, context)
    group = Group(policies={"60_fleet_a": "(defvar a 1)"})
    data = operator.signed("g", group, 3)
    plugin.group.remember("g", data)
    assert plugin.group.remembered() == ("g", Opened(group, 3, operator.public))
    revoked = FleetPlugin(settings.model_copy(update={"operators": []}), context)
    assert revoked.group.remembered() == ("g", Opened(Group(), 0, "no operator")), "what an operator has signed who is none any more"
    path = tmp_path / "fleet" / "group.json"
    whole = {"group": "g", "signed": data.decode()}
    wrongs: list[dict[str, object]] = [{"group": "no name"}, {"group": 3}, {"signed": 10**400}, {"signed": []}, {"signed": None}]
    for number, wrong in enumerate(wrongs, 1):
        StateFile(path, "group", dict).write({**whole, **wrong})
        assert plugin.group.remembered() is None
        assert f"{path} is damaged" in context.state_files[0].damage
        assert path.with_name(f"group.json.damaged-{number}").exists()
    assert plugin.group.remembered() is None
    assert not context.state_files[0].damage
