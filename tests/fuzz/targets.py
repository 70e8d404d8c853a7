"""Readers of texts, files and bytes from outside. Each target is a function of bytes that raises only expected errors."""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote
from xml.parsers.expat import ExpatError
from xmlrpc.client import Error as XmlRpcError
from zlib import crc32

import h11
from starlette.types import ASGIApp, Message, Scope

from mom_core import Engine, Guest, MomError, PluginContext, Snapshot, StateError, StateFile, Value, load_config
from mom_core.config.document import Document
from mom_core.ledger import Ledger
from mom_core.testing import snapshot
from mom_kvm import Destination
from mom_kvm.statistics import convert
from mom_plugins_fleet import FleetPlugin
from mom_plugins_fleet.buckets import StoredEntry
from mom_plugins_fleet.coordinator.plan import next_orders, places
from mom_plugins_fleet.records import Group, HostedGuest, HostState, Member, Move, Orders, read
from mom_plugins_fleet.signatures import opened
from mom_plugins_fleet.verbs.status import host_rows, print_hosts
from mom_plugins_fleet.view import FleetView
from mom_plugins_guestagent.clients import AgentWay, Misbehaves, NoAnswer, RawAgent, Wire, ask_guestd
from mom_plugins_guestagent.fields import judge
from mom_plugins_guestagent.ways import AgentAddress, AgentKind
from mom_plugins_http import HttpPlugin
from mom_plugins_http.server.access import Peer, Right
from mom_plugins_libvirt.domain_xml import described
from mom_plugins_policy import Policy, PolicyError
from mom_plugins_policy.checks import check
from mom_plugins_qemu.description import DESCRIBING, Description, guest_look
from mom_plugins_qemu.description import described as described_by_monitor
from mom_plugins_qemu.proxmox import parsed as parsed_definition
from mom_plugins_qemu.qemu_process import identity_in
from mom_plugins_qemu.wire import Conversation, WireError
from mom_plugins_record.recording.command import contents_of, print_contents
from mom_plugins_vdsm.incarnations import FORM, Incarnations
from mom_plugins_vdsm.jsonrpc import MessageError, parsed, read_frame
from mom_plugins_vdsm.momd.importer import import_momd
from mom_plugins_vdsm.rpc_verbs import read_call
from mom_plugins_vdsm.statistics import Vm, read_vm

SCRATCH: Final = Path(tempfile.gettempdir())
"""Folder for readers of files."""


PATIENT: Final[Mapping[str, object]] = {"deadline": "2min"}
"""Settings of a plugin whose setup takes long only beside fuzzing."""


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {}
"""Targets keyed by the name of their file in `corpus/`."""


def target(*expected: type[Exception]) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Return a decorator for targets. It ignores expected errors."""

    def named(reads: Callable[[bytes], None]) -> Callable[[bytes], None]:
        def taken(data: bytes) -> None:
            with suppress(*expected):
                reads(data)

        TARGETS[reads.__name__] = taken
        return taken

    return named


@cache
def host() -> Snapshot:
    """Return a snapshot with two guests and texts for policies."""
    fields: Mapping[str, Value] = {"mem_free": 300, "mem_available": 4096, "ksm_run": 0}
    guest: Mapping[str, Value] = {"balloon_cur": 100, "balloon_max": 200, "balloon_min": 0, "mem_unused": 50, "guest_os": "GNU"}
    return snapshot(host=fields, guests={"vm1": guest, "vm2": {**guest, "mem_unused": None}})


@target(UnicodeDecodeError)
def policy(data: bytes) -> None:
    """Compile, check and evaluate a policy, and read the reasons of its decisions."""
    text = data.decode()
    try:
        compiled = Policy.compile({"50_main_": text})
    except PolicyError:
        return
    check({"50_main_": text})
    [decision.reason for decision in compiled.evaluate(host()).decisions]


@target(MomError, UnicodeDecodeError)
def configuration(data: bytes) -> None:
    """Read a configuration: the YAML, and the settings of its plugins."""
    document = Document.parse(data.decode(), "mom.yaml")
    if isinstance(document.value, dict):
        load_config(document.value)


@target(MomError, UnicodeDecodeError)
def old_configuration(data: bytes) -> None:
    """Import a configuration of MOM."""
    load_config(import_momd(data.decode(), "mom.conf").settings())


@target(MomError)
def recording(data: bytes) -> None:
    """Read and show a file of a recording."""
    path = SCRATCH / "fuzzed.momrec"
    path.write_bytes(data)
    with redirect_stdout(StringIO()):
        print_contents(contents_of(path), as_json=False)


# The standard library raises the last four for invalid calls. The server answers with a fault.
@target(ExpatError, XmlRpcError, ValueError, TypeError, LookupError, AttributeError)
def xmlrpc_call(data: bytes) -> None:
    """Read a call of a client of the XML-RPC server."""
    read_call(data)


@target(MessageError)
def vdsm_stream(data: bytes) -> None:
    """Read frames of vdsm, and their messages."""

    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        with suppress(EOFError):
            while True:
                frame = await read_frame(reader, 1 << 20, None)
                with suppress(MessageError):
                    parsed(frame.body)

    asyncio.run(read())


@target()
def domain_xml(data: bytes) -> None:
    """Read a guest's definition, which its owner may write in part."""
    found = described(data.decode("utf-8", "replace"))
    assert found is None or 0 <= found.plugged_kib <= found.resizable_kib, "more plugged memory than possible"


@target()
def monitor(data: bytes) -> None:
    """Read the bytes of a guest's monitor in two pieces, and read them as a command line."""
    identity_in(data)
    for count in (len(DESCRIBING), 5):
        talk = Conversation(count)
        try:
            if not (talk.feed(data[: len(data) // 2]) or talk.feed(data[len(data) // 2 :])):
                continue
            guest = Description("web", "", 1 << 20, 1, "/machine/peripheral/balloon0")
            if count == len(DESCRIBING):
                guest = described_by_monitor(talk.result())
            answers = (talk.result() * 2)[: len(guest.cycle_questions())]
            fields, reading = convert(guest_look(guest, answers).record, None, wall=2e9, monotonic=5.0, stale_after=10.0)
            convert(guest_look(guest, answers).record, reading, wall=2e9, monotonic=7.0, stale_after=10.0)
        except WireError:
            continue
        assert all(type(value) in {int, float} for value in fields.values()), "a field is no number"


@target(MessageError)
def vdsm_statistics(data: bytes) -> None:
    """Read vdsm's statistics of a guest, twice."""
    entry = getattr(parsed(data), "result", None)
    if isinstance(entry, dict):
        before = read_vm(entry, None, 1.0, 15.0, count_page_cache=True)
        found = read_vm(entry, before, 17.0, 15.0, count_page_cache=False)
        values = found.fields.values() if found is not None else ()
        assert all(isinstance(value, int | float) and 0 <= value < 1 << 62 for value in values), "a field is no number"


@target()
def guest_definition(data: bytes) -> None:
    """Read a guest's definition of Proxmox VE."""
    definition = parsed_definition(data.decode("utf-8", "replace"))
    if definition is not None:
        assert isinstance(definition.is_resized_by_proxmox, bool)
        definition.properties()


@target()
def fleet_record(data: bytes) -> None:
    """Read a line with a bucket's name, and a record of this bucket of the fleet. The coordinator and the operator use it."""
    bucket, _, record = data.partition(b"\n")
    there = Destination.parse("qemu+tls://h2/system")
    view = FleetView()
    view.members.trusted = view.orders.trusted = None  # operators and coordinators can sign any record
    for host in ("h1", "h2"):
        member = Member(group="g", address=there, draining=host == "h1")
        view.members.take(host, StoredEntry(1, member.packed()))
        guests = (HostedGuest(id="a", name="a", size=4096, maximum=8192, guarantee=1024), HostedGuest(id="b", name="b"))
        state = HostState(mode="enforce", total=1 << 30, available=1 << 29, guests=guests)
        view.states.take(host, StoredEntry(1, state.packed(), time.time()))
    kept = StoredEntry(2, record, time.time())
    if bucket == b"states":
        view.states.take("h1", kept)
        view.states.take("h2", kept)
    elif bucket == b"roster":
        view.members.take("h1", kept)
        view.members.take("h2", kept)
    elif bucket == b"orders":
        view.orders.take("h1", kept)
    elif bucket == b"progress":
        view.orders.take(
            "h1", StoredEntry(1, Orders(moves=(Move(guest="a", name="a", to="h2", destination=there, takes=1, number=1),)).packed())
        )
        view.states.take("h1", kept)
    elif bucket == b"signed":
        with suppress(MomError):
            opened(Group, "g", record, ["UABCDEFG" * 7])
    else:
        try:
            _ = read(Group, record).classes
        except MomError:
            return
    known = places(view)
    for host in ("h1", "h2"):
        orders, _ = next_orders(view, host, 1, known)
        with suppress(MomError):  # larger than servers accept: the coordinator writes them again
            assert read(Orders, orders.packed()) == orders
    with redirect_stdout(StringIO()):
        print_hosts(host_rows(view))


class FromGuest(Wire):
    """Connection with bytes from a guest. The word TOKEN stands for the token of the last request."""

    def __init__(self, data: bytes) -> None:
        super().__init__("", most_line=1 << 20, most_bytes=4 << 20)
        self._data = data
        self._lines: list[bytes] = []

    async def send(self, data: bytes) -> None:
        """Accept a request."""
        token = (data.split() or [b""])[-1]
        self._lines = self._data.replace(b"TOKEN", token).split(b"\n")[::-1]

    async def line(self) -> bytes:
        """Return the next line."""
        if not self._lines:
            raise NoAnswer("the connection was closed")
        return self._lines.pop()


@target(NoAnswer, Misbehaves)
def guest_daemon(data: bytes) -> None:
    """Read a guest's answers in place of mom-guestd."""
    for said in asyncio.run(ask_guestd(FromGuest(data), "stats")):
        judge(said, 1.0, None, 1 << 20)


@target(NoAnswer, Misbehaves)
def guest_agent(data: bytes) -> None:
    """Read a guest's answers in place of qemu-guest-agent."""

    async def visit() -> None:
        guest, place = Guest("fuzz", "fuzz").entity, AgentAddress(AgentKind.AGENT_SOCKET)
        way = AgentWay(place, 1.0, guest, lambda function: asyncio.Future(), lambda *_: "")
        judge(await way.ask(RawAgent(FromGuest(data))), 1.0)

    asyncio.run(visit())


@cache
def served() -> Engine:
    """Return a mom with an API on a simulated host, until the process ends."""
    folder = SCRATCH / f"fuzzed-mom-{os.getpid()}"
    plugins = {"sim": {"guests": 2}, "balloon": {}, "policy": PATIENT, "sla": {}, "http": {}}
    engine = Engine(
        load_config({"interval": "1h", "state_directory": str(folder), "run_directory": str(folder), "mode": "enforce", "plugins": plugins})
    )
    engine.open()
    engine.cycle()
    return engine


async def answer(application: ASGIApp, data: bytes) -> int:
    """Return the status of the answer to a request: a line with method and path, headers, an empty line, and the body.

    Raise `h11.RemoteProtocolError` for requests that the server's HTTP library refuses.
    """
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(b"\r\n".join([first + b" HTTP/1.1", b"host: localhost", *lines, b"", b""]))
    event = reader.next_event()
    if not isinstance(event, h11.Request):
        raise h11.RemoteProtocolError("it does not end")
    method, headers = event.method.decode(), list(event.headers)
    path, _, query = event.target.decode("ascii").partition("?")
    peer = Peer("a fuzzer", Right.CHANGE, local=True)
    scope: Scope = {
        "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": unquote(path),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"), "headers": headers, "client": None, "server": None,
        "state": {"peer": peer, "end_connection": lambda: None, "entitle": lambda right: None},
    }  # fmt: skip
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    statuses: list[int] = []

    async def receive() -> Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await application(scope, receive, send)
    return statuses[0]


@target(h11.RemoteProtocolError)
def request(data: bytes) -> None:
    """Send a request to the API with all rights."""
    (service,) = (one.instance._service for one in served().plugins.plugins if isinstance(one.instance, HttpPlugin))
    assert service is not None
    assert asyncio.run(answer(service._api.application, data)) != 500, "mom made a mistake"


@cache
def kept_files() -> Mapping[str, StateFile[Any]]:
    """Return all state files of a mom on a simulated host, keyed by path in the state directory."""
    with tempfile.TemporaryDirectory() as folder, Engine(load_config(keeping(folder))) as engine:
        files = [file for plugin in engine.plugins.plugins for file in plugin.context.state_files]
        return {str(file.path.relative_to(folder)): file for file in [*files, Ledger(Path(folder, "ledger.json")).file]}


def keeping(folder: str) -> dict[str, object]:
    """Return a configuration with all plugins that have state files."""
    own: dict[str, object] = {"sim": {"guests": 2}, "balloon": {}, "sla": {}, "eviction": {}}
    return {
        "state_directory": folder,
        "run_directory": folder,
        "mode": "enforce",
        "plugins": {**own, "policy": {"keep_changes": True, **PATIENT}},
    }


@target()
def state_file(data: bytes) -> None:
    """Read a line with a state file's name, and JSON as its content, with a valid checksum.

    For one in ten accepted files, mom starts with the file, runs a cycle and restores everything. That takes a thousand times longer.
    """
    name, _, text = data.partition(b"\n")
    try:
        path, content = STATE_FILES[name.decode()], json.loads(text)
        if path in READ_ALONE:
            with tempfile.TemporaryDirectory() as folder:
                StateFile(Path(folder, path), "a file", lambda found: found).write(content, durable=False)
                READ_ALONE[path](Path(folder))
            return
        file = kept_files()[path]
        file.decoded(b"".join(file._framed(json.dumps(content))))
    except (KeyError, ValueError, RecursionError, StateError):
        return  # unknown file, invalid JSON, or damage
    if crc32(data) % 10:
        return
    with tempfile.TemporaryDirectory() as folder:
        StateFile(Path(folder, path), "a file", lambda found: found).write(content, durable=False)
        with Engine(load_config(keeping(folder))) as engine:
            report = engine.cycle()
    for one in report.plugins:
        assert not one.failures, f"{one.name}: {one.last_error}"


def vdsm_guests(folder: Path) -> None:
    """Read the file of the vdsm plugin: a mark for each guest."""
    marks = Incarnations(StateFile(folder / "vdsm/guests.json", "guests' starts", FORM), BOOT, lambda: 1000.0)
    assert len(marks.follow([Vm("a", "a", "Up", "", 0.0, elapsed=987.5), Vm("b", "b", "Up", "", 0.0)])) == 2


def fleet_group(folder: Path) -> None:
    """Read the file of the fleet plugin."""
    settings = FleetPlugin.Settings(servers=["nats://localhost:1"], host="h1")
    found = FleetPlugin(settings, PluginContext(name="fleet", state_directory=folder)).group.remembered()
    if found is not None:
        _ = found[1].record.classes


BOOT: Final = "01234567-89ab-cdef-0123-456789abcdef"

READ_ALONE: Final[Mapping[str, Callable[[Path], None]]] = {"vdsm/guests.json": vdsm_guests, "fleet/group.json": fleet_group}
"""Readers of files of plugins that this mom does not have."""

STATE_FILES: Final[Mapping[str, str]] = {
    "ledger": "ledger.json",
    "balloon": "balloon/balloon.json",
    "changes": "policy/changes.json",
    "notes": "policy/notes.json",
    "jobs": "eviction/jobs.json",
    "recent": "eviction/recent.json",
    "guests": "vdsm/guests.json",
    "group": "fleet/group.json",
}
"""Short names of state files in inputs, with their paths in the state directory."""
