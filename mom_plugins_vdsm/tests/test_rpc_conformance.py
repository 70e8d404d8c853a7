"""The RPC server against the conformance kit: with a socket of its own to listen on, and as `mom plugin check` looks at it."""

import os
import tempfile
from pathlib import Path

from mom_devkit import ConformanceTests
from mom_plugins_vdsm.rpc_plugin import XmlRpcPlugin


class TestConformance(ConformanceTests):
    plugin = XmlRpcPlugin
    plugin_name = "xmlrpc"
    settings = {"listen": str(Path(tempfile.gettempdir()) / f"mom-rpc-{os.getpid()}.sock")}  # as the kit has it
    may_touch = True
