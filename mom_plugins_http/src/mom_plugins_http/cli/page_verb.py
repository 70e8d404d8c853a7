"""`mom page`: an address of the web page for one browser."""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import sys
from urllib.parse import quote

import click

from mom_core import printable
from mom_plugins_http.cli.client import Client
from mom_plugins_http.cli.running_verb import common_options


@click.command("page", short_help="Open the web page in a browser on your own computer, through ssh.")
@click.option("--port", type=click.IntRange(1, 65535), default=8132, show_default=True, help="Port that ssh forwards.")
@click.option("--once", is_flag=True, help="Print the address and exit; the session stays valid for 12 hours.")
@common_options
def page_command(port: int, once: bool, as_json: bool, config_path: str | None) -> None:
    """Print an address that opens the web page in one browser, and wait, so that ssh keeps forwarding the port.

    On the workstation, run: ssh -o ExitOnForwardFailure=yes -L 8132:/run/mom/mom-page.sock root@HOST mom page

    Other users of the workstation cannot use the port, because mom requires a key. The key in the address works once, within two minutes.
    The browser then has your rights until this command or mom exits, for at most 12 hours.
    """
    answer = Client.configured(config_path).ask("POST", "/v1/page-keys" if once or as_json else "/v1/page-keys?tied=1")
    address = f"http://localhost:{port}/#key={quote(str(answer['key']))}"
    if as_json:
        click.echo(json.dumps({"url": address, **answer}))
        return
    click.echo(address)
    if once:
        return
    tunnel = shlex.quote(printable(f"{port}:{answer['socket']}", 200))
    forward = f"ssh -o ExitOnForwardFailure=yes -L {tunnel} USER@{socket.gethostname()} mom page"
    click.echo(f"The address works once, within {answer['seconds']:.0f} s, on a workstation that ran: {forward}", err=True)
    click.echo("Ctrl-C or the end of input ends this command and the session of the page.", err=True)
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        while sys.stdin.buffer.read(4096):
            pass
