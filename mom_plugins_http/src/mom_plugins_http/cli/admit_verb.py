"""`mom admit`."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import click

from mom_core import UnitError, count_of, format_kib, parse_size, printable
from mom_plugins_http.cli.client import Client
from mom_plugins_http.cli.running_verb import Shown, running_verb


@click.command("admit", short_help="Check whether more guests fit on this host.")
@click.option("--memory", required=True, metavar="SIZE", help="Maximum memory of each guest, such as 8GiB.")
@click.option("--class", "sla_class", default="", metavar="CLASS", help="Service class.  [default: the sla plugin's default]")
@click.option("--count", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Number of guests.")
@running_verb
def admit_command(client: Client, memory: str, sla_class: str, count: int) -> Shown:
    """Check whether more guests fit on this host without breaking a promise, and which guests would have to shrink.

    The running mom needs the sla and http plugins. Memory reserved for launches does not count as free. This command reserves nothing;
    `mom reserve` does. Exit code 1 if the guests do not fit, or if mom cannot tell.
    """
    try:
        parse_size(memory)
    except UnitError as error:
        raise click.UsageError(f"--memory: {error}") from None
    query = urlencode({"memory": memory, "count": count, **({"class": sla_class} if sla_class else {})}, errors="surrogateescape")
    answer = client.get(f"/v1/admission?{query}")
    return Shown(answer, _lines(answer), answer["admitted"])


def _lines(answer: Any) -> list[str]:
    count, fits = answer["count"], answer["fits"]
    subject = f"{count_of(count, 'guest')} of {format_kib(answer['memory_kib'])}, class {printable(answer['sla_class'] or 'none')}"
    lines = [f"yes: {subject} would fit" if answer["admitted"] else f"no: {subject} would not fit" + (f"; {fits} would" if fits else "")]
    lines += [f"  {printable(reason, 400)}" for reason in answer["reasons"]]
    if answer["donors"]:
        lines.append("guests that would have to shrink:" if answer["admitted"] else "to make room, these guests would have to shrink:")
        for donor in answer["donors"]:
            part = "of its guarantee" if donor["promise"] else "of memory that is neither used nor guaranteed"
            lines.append(f"  {printable(donor['guest']['name'])}: {format_kib(donor['kib'])} {part}")
    return lines
