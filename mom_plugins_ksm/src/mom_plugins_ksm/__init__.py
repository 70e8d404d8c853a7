"""Fields, controls and a default policy for KSM."""

from mom_plugins_ksm.control import KsmControl as KsmControl
from mom_plugins_ksm.control import KsmWriter as KsmWriter
from mom_plugins_ksm.plugin import KsmPlugin as KsmPlugin
