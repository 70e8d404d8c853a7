"""Service classes for mom: what guests are promised, and who pays when memory is short."""

from mom_plugins_sla.plugin import SlaPlugin as SlaPlugin
