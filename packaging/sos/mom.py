# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Plugin for `sos report` on a host that mom manages. Copy it into the folder `sos/report/plugins` of sos."""

import os

from sos.report.plugins import DebianPlugin, Plugin, RedHatPlugin, UbuntuPlugin

PROGRAMS = ("/opt/mom/bin/mom", "/usr/local/bin/mom", "/usr/bin/mom")
VERBS = {
    "version": "--version",
    "settings": "config show",
    "plugins": "plugin list",
    "doctor": "doctor",
    "status": "status --json",
    "guests": "guests --json",
    "policies": "policy list --json",
    "to_put_back": "restore --dry-run",
}
"""Verbs by the name of their file. They mask secrets, and read mom's folders as the user who owns them."""

HOST_FILES = (
    "/proc/pressure",
    "/proc/swaps",
    "/sys/kernel/mm/ksm",
    "/sys/kernel/mm/transparent_hugepage",
    "/sys/devices/system/node/node*/meminfo",
    "/sys/fs/cgroup/cgroup.controllers",
)
SECONDS = 90


class Mom(Plugin, DebianPlugin, RedHatPlugin, UbuntuPlugin):
    """mom's version, settings, state and log, without secrets; it changes nothing."""

    short_desc = "mom, the memory overcommitment manager"
    plugin_name = "mom"
    profiles = ("virt", "memory", "performance")
    services = ("mom", "mom-helper", "mom-libvirt-helper", "mom-restore", "mom-vdsm")
    files = PROGRAMS

    def setup(self):
        """Name the commands, files and logs to collect."""
        program = next((path for path in PROGRAMS if os.access(path, os.X_OK)), "mom")
        for name, verb in VERBS.items():
            self.add_cmd_output(f"{program} {verb}", suggest_filename=f"mom_{name}", timeout=SECONDS)
        self.add_copy_spec(list(HOST_FILES))
