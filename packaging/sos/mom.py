# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""For `sos report` on a host that mom manages: what `mom bugreport` collects. Copy it into the folder `sos/report/plugins` of sos."""

import os

from sos.report.plugins import DebianPlugin, Plugin, RedHatPlugin, UbuntuPlugin

PROGRAMS = ("/opt/mom/bin/mom", "/usr/local/bin/mom", "/usr/bin/mom")
SECONDS = 300
"""Each part of the report ends after 90 s, and three are made at a time."""


class Mom(Plugin, DebianPlugin, RedHatPlugin, UbuntuPlugin):
    """mom's versions, settings, state and log, without secrets; no changes to anything."""

    short_desc = "mom, the memory overcommitment manager"
    plugin_name = "mom"
    profiles = ("virt", "memory", "performance")
    services = ("mom", "mom-helper", "mom-libvirt-helper")
    files = PROGRAMS

    def setup(self):
        """What is to be collected."""
        program = next((path for path in PROGRAMS if os.access(path, os.X_OK)), "mom")
        self.add_cmd_output(f"{program} bugreport -o -", suggest_filename="mom_bugreport", timeout=SECONDS)
