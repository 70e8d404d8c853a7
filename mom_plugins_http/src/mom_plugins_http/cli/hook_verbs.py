"""`mom hook`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mom_core import load_config
from mom_daemon import as_caller, config_option, print_prose
from mom_plugins_http.cli.client import Client
from mom_plugins_http.launch_hook.installed import Hook, Platform, longest_wait

_platform = click.argument("platform", type=click.Choice([str(name) for name in Platform]))


def _root(function: Callable[..., Any]) -> Callable[..., Any]:
    folder = click.Path(path_type=Path, exists=True, file_okay=False)
    return click.option("--root", type=folder, default=Path("/"), hidden=True)(config_option(function))


@click.group("hook", short_help="Make the hypervisor ask mom before it starts a guest.")
@as_caller
def hook_command() -> None:
    """Make the hypervisor ask mom before it starts a guest, so that mom can make memory available first.

    \b
    mom hook install libvirt       for all guests of libvirt
    mom hook install proxmox       for guests of Proxmox VE whose configuration names the hook

    If mom does not answer, for example because it was removed, guests start as usual. `mom doctor` shows the installed hooks.
    """


@hook_command.command("install", short_help="Install or update the hook.")
@_platform
@_root
def install_command(platform: str, root: Path, config_path: str | None) -> None:
    """Install or update the hook of PLATFORM, and print the next steps. A file that is not mom's stays unchanged."""
    wait = longest_wait(load_config(config_path).in_force())
    hook = Hook(Platform(platform), root, Client.configured(config_path).path, wait)
    hook.install()
    print_prose(f"Before a guest starts, {hook.path} asks mom at {hook.socket}.", 2)
    if hook.platform is Platform.PROXMOX:
        print_prose("For each guest, run: qm set VMID --hookscript local:snippets/mom-launch", 2)
        print_prose("The storage `local` must accept snippets: pvesm set local --content iso,vztmpl,backup,snippets", 2)
        print_prose("In a cluster, install the hook on each node first: a node without the hook does not start such a guest.", 2)
    else:
        print_prose("libvirt finds its first hook only on a reload: systemctl reload libvirtd (or virtqemud). Guests keep running.", 2)


@hook_command.command("remove", short_help="Remove the hook.")
@_platform
@_root
def remove_command(platform: str, root: Path, config_path: str | None) -> None:
    """Remove the hook of PLATFORM. mom refuses while definitions of Proxmox VE guests name the hook, because
    these guests would not start without it."""
    hook = Hook(Platform(platform), root, Path(), 0.0)
    removed = hook.remove()
    print_prose(f"{hook.path} is removed." if removed else f"There is no {hook.path}.", 2)
