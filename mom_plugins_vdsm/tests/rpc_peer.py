"""RPC server of mom in this process, with a simulated set of plugins, and clients like vdsm."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

from mom_core import Declarations, FieldSpec, PluginContext, Report, Scope, Snapshot, Unit
from mom_core.testing import snapshot
from mom_kvm import Address
from mom_plugins_policy import PolicyPlugin
from mom_plugins_vdsm.rpc_client import SocketTransport
from mom_plugins_vdsm.rpc_plugin import XmlRpcPlugin

LONG_SECONDS = 60.0
"""Longer than any call here, also on a busy machine. vdsm itself waits only two seconds."""


@contextmanager
def client(path: Path) -> Iterator[Any]:
    """Yield a client like vdsm's."""
    with ServerProxy("http://2F72756E/RPC2", transport=SocketTransport(Address.parse(str(path)), LONG_SECONDS), allow_none=True) as proxy:
        yield proxy


GUEST_FIELDS = ("balloon_cur", "balloon_max", "io_tune", "vcpu_count", "my_own")


class Serving:
    """Plugins xmlrpc and policy, set up like in the engine, but without one."""

    def __init__(self, path: Path, *, policies: Mapping[str, str] | None = None, evaluator: bool = True, **settings: object) -> None:
        folder = path / "policy.d"
        folder.mkdir(exist_ok=True)
        for name, text in (policies or {}).items():
            (folder / f"{name}.policy").write_text(text)
        self.socket = path / "mom.sock"
        fields = {(Scope.GUEST, name): FieldSpec(name, Unit.KIB, Scope.GUEST, name) for name in GUEST_FIELDS}
        declarations = Declarations(fields=fields)
        self.woken: list[str] = []
        own = PluginContext(name="policy", state_directory=path / "state", wake=self.woken.append, declarations=declarations)
        self.evaluator = PolicyPlugin(PolicyPlugin.Settings(directory=folder), own)
        self.evaluator.mom_setup()
        services = {kind: (offer,) for kind, offer in self.evaluator.mom_services().items()} if evaluator else {}
        self.context = PluginContext(name="xmlrpc", declarations=declarations, offers=services)
        self.plugin = XmlRpcPlugin(XmlRpcPlugin.Settings.model_validate({"listen": str(self.socket), **settings}), self.context)

    def __enter__(self) -> Serving:
        self.plugin.mom_setup()
        return self

    def __exit__(self, *_: object) -> None:
        self.plugin.mom_teardown()

    def evaluate(self, **host: Any) -> list[object]:
        """Return the decisions of the policies, and the server's problems, for a host."""
        taken = snapshot(host=host)
        return [*self.evaluator.mom_evaluate(taken, ()), *self.plugin.mom_problems()]

    def report(self, host: Mapping[str, Any], guests: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.plugin.mom_report(report(snapshot(host=host, guests=guests or {})))


def report(taken: Snapshot) -> Report:
    return Report(1, 0.0, "enforce", taken, (), (), (), (), (), 0.01)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}
