"""`mom guestd-script`."""

from __future__ import annotations

from importlib.resources import files

import click

from mom_daemon import print_text


@click.command("guestd-script")
@click.option("--unit", is_flag=True, help="Print the systemd unit for guests instead.")
def guestd_script(unit: bool) -> None:
    """Print mom-guestd, the daemon that runs inside guests.

    It is one file that needs Python 3.7 or later and nothing else: copy it to /usr/local/sbin/mom-guestd in a guest, make it
    executable, and start it with the unit that --unit prints.
    """
    name = "mom-guestd.service" if unit else "guestd.py"
    print_text(files("mom_plugins_guestagent").joinpath(name).read_text("utf-8"))
