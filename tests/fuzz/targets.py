"""What reads texts, files and bytes from outside, each as a function of bytes that may raise nothing but what its callers expect."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final
from xml.parsers.expat import ExpatError
from xmlrpc.client import Error as XmlRpcError

from mom_core import MomError, Snapshot, Value, load_config
from mom_core.config.document import parse_document
from mom_core.testing import snapshot
from mom_plugins_guestagent.failures import Misbehaves, NoAnswer
from mom_plugins_guestagent.figures import fields_of, judge
from mom_plugins_guestagent.guestd_client import ask
from mom_plugins_guestagent.qemu_agent import AgentVisits, RawAgent
from mom_plugins_guestagent.wire import Wire
from mom_plugins_libvirt.domain_xml import described
from mom_plugins_policy import Policy, PolicyError
from mom_plugins_policy.checks import check
from mom_plugins_policy.explain import explain
from mom_plugins_policy.formatting import formatted
from mom_plugins_sim.recording.reader import Recording
from mom_plugins_vdsm.jsonrpc import AnswerError, parsed
from mom_plugins_vdsm.rpc_codec import RefusedRequestError, read_call
from mom_plugins_vdsm.statistics import read_vm
from mom_plugins_vdsm.stomp import FrameError, FrameReader

SCRATCH: Final = Path(tempfile.gettempdir())
"""Where readers of files find what they are to read."""


@cache
def host() -> Snapshot:
    """A host with two guests, with texts that policies can read."""
    fields: Mapping[str, Value] = {"mem_free": 300, "mem_available": 4096, "ksm_run": 0}
    guest: Mapping[str, Value] = {"balloon_cur": 100, "balloon_max": 200, "balloon_min": 0, "mem_unused": 50, "guest_os": "GNU"}
    return snapshot(host=fields, guests={"vm1": guest, "vm2": {**guest, "mem_unused": None}})


def policy(data: bytes) -> None:
    """What becomes of a policy: compiled, evaluated, checked, explained, laid out."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    try:
        compiled = Policy.compile({"50_main_": text})
    except PolicyError:
        return
    check({"50_main_": text})
    compiled.evaluate(host())
    for entity in (host().host.entity, host().guests["vm1"].entity):
        try:
            explain(compiled, host(), entity)
        except PolicyError:
            break
    once = formatted("50_main_", text)
    assert formatted("50_main_", once) == once, "formatting again changes it"


def configuration(data: bytes) -> None:
    """A configuration: its YAML, and with the plugins that it names."""
    try:
        document = parse_document(data.decode(), "mom.yaml")
        if isinstance(document.value, dict):
            load_config(document.value)
    except (MomError, UnicodeDecodeError):
        return


def recording(data: bytes) -> None:
    """A file of a recording."""
    path = SCRATCH / "fuzzed.momrec"
    path.write_bytes(data)
    try:
        for _ in Recording(path).cycles():
            pass
    except MomError:
        return


def xmlrpc_call(data: bytes) -> None:
    """A call that a client of the XML-RPC server sends."""
    try:
        read_call(data)
    except (RefusedRequestError, ExpatError, XmlRpcError):
        return
    except (ValueError, TypeError, LookupError, AttributeError):
        return  # the standard library's own for what is no call; the server answers each as a fault


def vdsm_stream(data: bytes) -> None:
    """Frames that vdsm sends, in two pieces, and the messages in them."""
    reader = FrameReader(1 << 20)
    try:
        for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
            for frame in reader.feed(piece):
                try:
                    parsed(frame.body)
                except AnswerError:
                    continue
    except FrameError:
        return


def domain_xml(data: bytes) -> None:
    """A guest's description, parts of which its owner writes."""
    described(data.decode("utf-8", "replace"))


def vdsm_statistics(data: bytes) -> None:
    """What vdsm tells of a guest, twice."""
    try:
        answer = parsed(data)
    except AnswerError:
        return
    entry = getattr(answer, "result", None)
    if isinstance(entry, dict):
        before = read_vm(entry, None, 1.0, 15.0, count_page_cache=True)
        read_vm(entry, before, 17.0, 15.0, count_page_cache=False)


class FromGuest(Wire):
    """A wire on which stands what a guest has sent. The word TOKEN in it is the one that it was asked with last."""

    def __init__(self, data: bytes) -> None:
        super().__init__("", most_line=1 << 20, most_bytes=4 << 20)
        self._data = data
        self._lines: list[bytes] = []

    async def send(self, data: bytes) -> None:
        """Take a question in."""
        token = (data.split() or [b""])[-1]
        self._lines = self._data.replace(b"TOKEN", token).split(b"\n")[::-1]

    async def line(self) -> bytes:
        """The next line."""
        if not self._lines:
            raise NoAnswer("the connection was closed")
        return self._lines.pop()


def guest_daemon(data: bytes) -> None:
    """What a guest answers in the place of mom-guestd."""
    try:
        for said in asyncio.run(ask(FromGuest(data), "stats")):
            fields_of(judge(said, 1.0, None, 1 << 20).sample)
    except (NoAnswer, Misbehaves):
        return


def guest_agent(data: bytes) -> None:
    """What a guest answers in the place of qemu-guest-agent."""

    async def visit() -> None:
        visits = AgentVisits(allow_exec=False, addresses=True)
        agent = RawAgent(FromGuest(data))
        await visits.facts(agent)
        fields_of(judge(await visits.figures(agent), 1.0).sample)

    try:
        asyncio.run(visit())
    except (NoAnswer, Misbehaves):
        return


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    one.__name__: one
    for one in (
        policy,
        configuration,
        recording,
        xmlrpc_call,
        vdsm_stream,
        vdsm_statistics,
        domain_xml,
        guest_daemon,
        guest_agent,
    )
}
"""By the name of the folder in `corpus/` that holds inputs for it."""
