"""Movers besides mom's own: guests are moved to other hosts by what moves guests there already."""

from mom_plugins_movers.command import CommandMoverPlugin
from mom_plugins_movers.ovirt import OvirtMoverPlugin
from mom_plugins_movers.proxmox import ProxmoxMoverPlugin
from mom_plugins_movers.webhook import WebhookMoverPlugin

__all__ = ["CommandMoverPlugin", "OvirtMoverPlugin", "ProxmoxMoverPlugin", "WebhookMoverPlugin"]
__version__ = "0.1.0"
