"""Conformance tests of both plugins, with a socket for the RPC server."""

import os
import tempfile
from pathlib import Path

from mom_devkit import ConformanceTests
from mom_plugins_vdsm import VdsmPlugin
from mom_plugins_vdsm.rpc_plugin import XmlRpcPlugin


class TestVdsmConformance(ConformanceTests):
    plugin = VdsmPlugin


class TestRpcConformance(ConformanceTests):
    plugin = XmlRpcPlugin
    plugin_name = "xmlrpc"
    settings = {"listen": str(Path(tempfile.gettempdir()) / f"mom-rpc-{os.getpid()}.sock")}  # like in the kit
    may_touch = True
