"""`mom completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", epilog='For this session of bash: eval "$(mom completion bash)". mom\'s packages install the scripts.')
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print the script that makes a shell complete mom's subcommands and options on Tab."""
    kind = get_completion_class(shell)
    if kind is None:  # this version of click does not support the shell
        raise click.UsageError(f"the installed version of click has no completion for {shell}")
    command = click.get_current_context().find_root().command
    completion = kind(command, {}, "mom", "_MOM_COMPLETE")
    # `source()` would check this host's bash version, but the script may be for another host.
    click.echo(completion.source_template % completion.source_vars())
