# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""For `sos report` on a host that mom manages. Copy it into the folder `sos/report/plugins` of sos; it needs nothing of mom but its verbs.

What is collected is what mom itself shows, as its verbs mask secrets. Neither the configuration file nor what it names is copied.
"""

import json
import os
import re

from sos.report.plugins import DebianPlugin, Plugin, RedHatPlugin, UbuntuPlugin

PROGRAMS = ("/opt/mom/bin/mom", "/usr/local/bin/mom", "/usr/bin/mom")
STATE = "/var/lib/mom"
RUN = "/run/mom"
VERBS = (
    "--version",
    "plugin list",
    "config show",
    "config check",
    "doctor",
    "status",
    "status --json",
    "guests --json",
    "policy list --json",
    "restore --dry-run",
)
UNITS = ("mom", "mom-restore", "mom-vdsm")
NAMES = r"(?i:password|passphrase|secret|token|api[_-]?key|authorization)"
SECRETS = (
    (r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----)[^-]*", r"\1 ******** "),
    (r"(://[^\s/@:\"']*:)[^\s/@\"']+@", r"\1********@"),
    (r"\b((?:Bearer|Basic)\s+)[A-Za-z0-9+/._~=-]{4,}", r"\1********"),
    # name: value, name = value, "name": "value", and in columns. A path is no secret: what is in its file is.
    (
        rf"({NAMES}[\w-]*[\"']?(?:[ \t]*[:=][ \t]*|[ \t]{{2,}}))"
        r"(?![\"']?/|[\"']?\*|\{|\[|default\b|null\b)(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;}]+)",
        r"\1********",
    ),
)


class Mom(Plugin, DebianPlugin, RedHatPlugin, UbuntuPlugin):
    """mom's versions, settings, state and log; no changes to anything."""

    short_desc = "mom, the memory overcommitment manager"
    plugin_name = "mom"
    profiles = ("virt", "memory", "performance")
    services = ("mom",)
    files = (*PROGRAMS, STATE)

    def setup(self):
        """What is to be collected."""
        self.program = next((path for path in PROGRAMS if os.access(path, os.X_OK)), "mom")
        self.add_forbidden_path("/etc/mom")
        self.add_cmd_output([f"{self.program} {verb}" for verb in VERBS], timeout=60)
        self.add_copy_spec([f"{STATE}/ledger.json*", f"{RUN}/status.json", f"{RUN}/mom.lock"])
        self.add_journal(units=list(UNITS), lines=3000)
        self.add_service_status(list(UNITS))
        self.add_cmd_output(f"systemctl cat {' '.join(UNITS)}")

    def postproc(self):
        """Mask what settings name as a secret, and what looks like one, in all that was collected."""
        for pattern, instead in [*((re.escape(text), "********") for text in self._secrets()), *SECRETS]:
            for command in ("mom", "journalctl", "systemctl"):
                self.do_cmd_output_sub(command, pattern, instead)
            self.do_path_regex_sub(f"({STATE}|{RUN})/.*", pattern, instead)

    def _secrets(self):
        """What settings with such names hold that mom's own verbs show, because their plugin does not say that they are secret."""
        shown = self.exec_cmd(f"{self.program} config show --json", timeout=60, stderr=False)
        try:
            settings = json.loads(shown["output"])["settings"]
        except (KeyError, TypeError, ValueError):
            return []
        held = [one["value"] for one in settings if isinstance(one["value"], str) and re.search(NAMES, one["setting"].rpartition(".")[2])]
        return sorted((text for text in held if len(text) >= 8 and not text.startswith(("/", "*"))), key=len, reverse=True)
