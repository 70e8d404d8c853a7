"""KSM, the kernel's merging of equal pages: its fields, its controls, and a default policy for them."""

from mom_plugins_ksm.plugin import KsmPlugin as KsmPlugin
