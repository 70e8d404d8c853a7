"""vdsm's calls to mom: XML-RPC on a unix socket, with vdsm's time limits. Part of the test peer."""

import http.client
import time
import xmlrpc.client
from collections.abc import Mapping
from contextlib import suppress

from mom_kvm import Address
from mom_plugins_vdsm.rpc_client import SocketTransport

TIMEOUT_SECONDS = 2.0
SILENCE_SECONDS = 5.0
"""Seconds without calls after a failed call."""

KSM_KEYS = ("ksm_run", "ksm_merge_across_nodes", "ksm_pages_to_scan", "ksm_pages_sharing", "ksmd_cpu_usage")
NAME = "01-parameters"


class Unavailable(Exception):
    """mom is unreachable, or the pause after a failed call has not ended."""


class Manager:
    """Calls to mom, with vdsm's state for them."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._parameters: dict[str, object] = {}
        self._silent_until = 0.0

    def statistics(self) -> dict[str, object]:
        """Return mom's part of Host.getStats. A fault or a missing key makes the whole answer fail."""
        try:
            if not self._call("ping"):
                return {"momStatus": "inactive"}
            found = self._call("getStatistics")
        except Unavailable:
            return {"momStatus": "inactive"}
        host = found["host"]  # type: ignore[index]  # as vdsm does it
        run, across, scan, sharing, cpu = (host[key] for key in KSM_KEYS)
        return {
            "momStatus": "active", "ksmState": bool(run), "ksmMergeAcrossNodes": bool(across), "ksmPages": scan,
            "memShared": sharing * 4096 >> 20, "ksmCpu": cpu,
        }  # fmt: skip

    def set_parameters(self, parameters: Mapping[str, object]) -> None:
        """Host.setMOMPolicyParameters: send all parameters that were ever set. vdsm reports success even without mom."""
        self._parameters.update(parameters)
        text = "\n".join(f"(set {name} {value!r})" for name, value in self._parameters.items())
        with suppress(Unavailable):
            self._call("setNamedPolicy", NAME, text)

    def _call(self, method: str, *arguments: str) -> object:
        if time.monotonic() < self._silent_until:
            raise Unavailable
        proxy = xmlrpc.client.ServerProxy(
            "http://2F72756E/RPC2", transport=SocketTransport(Address.parse(self._path), TIMEOUT_SECONDS), allow_none=True
        )
        try:
            return getattr(proxy, method)(*arguments)
        except (OSError, http.client.HTTPException) as error:
            self._silent_until = time.monotonic() + SILENCE_SECONDS
            raise Unavailable from error
        finally:
            proxy("close")()
