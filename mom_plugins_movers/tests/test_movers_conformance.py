"""The plugins against the conformance kit."""

import tempfile
from pathlib import Path

from mom_devkit import ConformanceTests
from mom_plugins_movers import CommandMoverPlugin, OvirtMoverPlugin, ProxmoxMoverPlugin, WebhookMoverPlugin

_SECRET = Path(tempfile.mkdtemp(prefix="mom-movers-")) / "secret"
_SECRET.touch(mode=0o600)
_SECRET.write_text("mom@pve!mover=0123456789abcdef0123456789abcdef")


class TestCommand(ConformanceTests):
    plugin = CommandMoverPlugin
    settings = {"command": ["/bin/true", "{guest}", "{host}"]}


class TestWebhook(ConformanceTests):
    plugin = WebhookMoverPlugin
    settings = {"server": {"url": "https://cloud.example.org/mom", "secret": str(_SECRET)}}


class TestProxmox(ConformanceTests):
    plugin = ProxmoxMoverPlugin
    settings = {"url": "http://127.0.0.1:1", "token": str(_SECRET)}


class TestOvirt(ConformanceTests):
    plugin = OvirtMoverPlugin
    settings = {"url": "http://127.0.0.1:1", "password": str(_SECRET)}
