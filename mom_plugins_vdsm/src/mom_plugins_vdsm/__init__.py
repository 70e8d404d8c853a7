"""The vdsm and xmlrpc plugins, and `momd`, the replacement of MOM's daemon."""

from mom_plugins_vdsm.plugin import VdsmPlugin as VdsmPlugin
