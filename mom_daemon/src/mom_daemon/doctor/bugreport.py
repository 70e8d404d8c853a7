"""`mom bugreport`: what a support engineer asks for, in one file, without secrets."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final

import click

from mom_core import Config, Declarations, EngineState, MomError, Report, __version__, load_config, printable, replace_file
from mom_core.files import read_file
from mom_core.plugins.bounded import attempt
from mom_daemon import (
    ReportDocument,
    as_caller,
    become_configured_owner,
    config_argument,
    config_of_running,
    load_to_look,
    other_owner,
    print_prose,
    print_text,
    report_document,
)
from mom_daemon.doctor.redaction import Redaction
from mom_daemon.look.sources import newest, recording

VERB_SECONDS: Final = 45.0
"""How long one of the parts may take: a plugin that hangs is what a report is made for."""

LARGEST: Final = 2 << 20
"""Bytes of a part; of a longer one the end is kept, where the newest is."""

LARGEST_READ: Final = 64 << 20
"""Bytes of a file, from its beginning. None of mom's becomes so large; of one that is, it is said."""

LOG_LINES: Final = "3000"
CYCLES: Final = 30
LATELY_SECONDS: Final = 30 * 86_400.0
"""Recorded cycles, the newest; what is older tells nothing of what is wrong now."""

AT_ONCE: Final = 3

_HOST_FILES: Final = (
    "proc/version proc/meminfo proc/loadavg proc/swaps proc/uptime proc/pressure/* proc/sys/vm/overcommit_* proc/sys/vm/swappiness "
    "proc/sys/vm/min_free_kbytes sys/kernel/mm/ksm/* sys/kernel/mm/transparent_hugepage/* sys/devices/system/node/online "
    "sys/devices/system/node/node*/meminfo sys/fs/cgroup/cgroup.controllers etc/os-release"
)

_UNITS: Final = ("mom", "mom-helper", "mom-libvirt-helper", "mom-restore", "mom-vdsm")

_OF_THE_OWNER: Final = ("policies.json", "ledger.json", "lock.txt", "cycles.jsonl")
"""Parts that are read from mom's folders, and from those of policies, which may be below these. Where they are another user's, root has a
process read them that is that user's: a link there could lead to what only root may read."""

Part = Callable[[], str]


@click.command("bugreport")
@config_argument
@click.option("-o", "--output", metavar="FILE", help="Where to write; - is standard output.  [default: mom-bugreport-TIME.txt]")
@click.option("--part", type=click.Choice(_OF_THE_OWNER), hidden=True, help="Print this part only, as it is.")
@as_caller  # the log is root's; what is in mom's folders, a process of its own reads
def bugreport_command(config_path: str | None, output: str | None, part: str | None) -> None:
    """Collect what a support engineer asks for: versions, configuration, what doctor and status say, the ledger, policies, the last cycles,
    the log, and facts about the kernel. Secrets are masked. Nothing on the host is changed, and nothing is sent anywhere.
    """
    options = [] if config_path is None else ["-c", config_path]
    if part is not None:
        become_configured_owner(config_path)
        config = load_to_look(config_path)
        print_text(_parts(config, options, "")[part][0]())
        return
    path = Path(output or time.strftime("mom-bugreport-%Y%m%d-%H%M%S.txt"))
    if output != "-" and os.path.lexists(path):
        raise _exists(path)
    if not path.parent.is_dir():  # what follows takes a while
        raise _unwritable(path, "there is no such folder")
    try:
        config, trouble = load_config(config_path), ""
    except MomError as error:
        running = config_of_running(config_path)
        config, trouble = Config() if running is None else running.config, str(error)
    redact = Redaction(plugin.settings for plugin in config.plugins.values())
    parts = _parts(config, options, trouble)
    if other_owner(config.state_directory, config.run_directory) is not None:
        parts = {**parts, **{name: (partial(_verb, "bugreport", "--part", name, *options), parts[name][1]) for name in _OF_THE_OWNER}}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        texts = dict(zip(parts, pool.map(_made, (part for part, _ in parts.values())), strict=True))
    redacted = {name: redact(text) for name, text in texts.items()}
    about = _about({name: words for name, (_, words) in parts.items()}, redacted, redact.masked)
    report = about + "".join(f"===== {name}\n{text}\n" for name, text in redacted.items())
    if output == "-":
        print_text(report)
        return
    try:
        replace_file(path, report.encode("utf-8", "backslashreplace").decode("utf-8"), durable=False, mode=0o600, replace=False)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise _unwritable(path, error.strerror) from error
    print_prose(f"wrote {path} ({path.stat().st_size / 1024:.0f} KiB, mode 0600)\n{about}Look through it before you pass it on.", 4)


def _parts(config: Config, options: Sequence[str], trouble: str) -> Mapping[str, tuple[Part, str]]:
    """Each part's file, how it is made, and what it is."""
    state, run = config.state_directory, config.run_directory
    return {
        "versions.txt": (_versions, "mom, its plugins, the libraries, the kernel"),
        "config.txt": (lambda: trouble or _verb("config", "show", *options), "the settings in force, and where each comes from"),
        "plugins.txt": (lambda: _verb("plugin", "list", *options), "what is installed and enabled"),
        "doctor.txt": (lambda: _verb("doctor", *options), "what mom doctor finds"),
        "status.json": (lambda: _verb("status", "--json", *options), "the last cycle of the running mom"),
        "guests.txt": (lambda: _verb("guests", *options), "all guests with their memory"),
        "policies.json": (lambda: _policies(config, options), "the policies in force, or their files"),
        "ledger.json": (lambda: _files([state / "ledger.json", *sorted(state.glob("ledger.json.*"))]), "what mom would put back"),
        "lock.txt": (lambda: _files([run / "mom.lock"]), "which process runs"),
        "cycles.jsonl": (lambda: _cycles(config), f"the last {CYCLES} recorded cycles, if they are recorded"),
        "log.txt": (_log, "the last lines of the log, if systemd's journal has it"),
        "units.txt": (_service, "mom's services, as systemd has them"),
        "host.txt": (lambda: _host(config.root), "kernel, memory, pressure, KSM, NUMA nodes"),
    }


def _made(part: Part) -> str:
    """A part's text, or why there is none. No part keeps the others away."""
    made = attempt(part, seconds=2 * VERB_SECONDS, what="this part of the report")
    text = (made.value or "") if made.error is None else f"not to be had: {type(made.error).__name__}: {made.error}\n"
    return text if len(text) <= LARGEST else f"… the last {LARGEST} characters:\n{text[-LARGEST:]}"


def _run(words: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=VERB_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"{words[-1]} did not end within {VERB_SECONDS:g} s\n"
    except OSError as error:
        return f"{words[0]}: {error.strerror}\n"
    said = f"\n--- standard error:\n{done.stderr}" if done.stderr else ""
    return f"{done.stdout}{said}" + (f"\n--- exit code {done.returncode}\n" if done.returncode else "")


def _verb(*words: str) -> str:
    """The output of another verb, from a process of its own: a plugin that hangs or crashes does so there."""
    return _run([sys.executable, "-P", "-m", "mom_daemon", *words])


def _versions() -> str:
    lines = [f"mom {__version__}", f"Python {platform.python_version()} ({sys.executable})", " ".join(platform.uname())]
    lines += sorted(f"{one.name} {one.version}" for one in metadata.distributions())
    lines += [_run((program, "--version")).strip() for program in ("virsh", "qemu-system-x86_64")]
    return "\n".join(lines) + "\n"


def _policies(config: Config, options: Sequence[str]) -> str:
    """Those of the running mom; else the files of every plugin that has a folder of some."""
    said = _verb("policy", "list", "--json", *options)
    if said.startswith("{"):
        return said
    folders = {Path(folder) for plugin in config.plugins.values() if (folder := getattr(plugin.settings, "directory", None))}
    return f"{said}\n" + _files([file for folder in sorted(folders) for file in sorted(folder.glob("*.policy"))])


def _files(paths: Sequence[Path]) -> str:
    """Several files as they are, or why not."""
    texts = []
    for path in paths:
        try:
            content = read_file(path, LARGEST_READ)
            text = content[-LARGEST:].decode("utf-8", "replace").replace("\0", "").rstrip()
            text += "\n(the file is longer)" if len(content) > LARGEST_READ else ""
        except OSError as error:
            text = f"({error.strerror})"
        texts.append(f"=== {path}\n{text}\n" if len(paths) > 1 or text.startswith("(") else f"{text}\n")
    return "".join(texts)


def _host(root: Path) -> str:
    return _files([path for pattern in _HOST_FILES.split() for path in sorted(root.glob(pattern)) if path.is_file()])


def _log() -> str:
    units = [word for unit in _UNITS for word in ("-u", unit)]
    return _run(["journalctl", *units, "-n", LOG_LINES, "--no-pager", "-o", "short-iso"])


def _service() -> str:
    return "".join(_run(["systemctl", "--no-pager", verb, *(f"{unit}.service" for unit in _UNITS)]) for verb in ("status", "cat"))


def _cycles(config: Config) -> str:
    """The newest recorded cycles, a line of JSON for each."""
    try:
        found = newest(recording(config, None), CYCLES, within=LATELY_SECONDS)
    except MomError as error:
        return f"{error}\n"
    return "".join(f"{json.dumps(_of(cycle.report), default=str)}\n" for cycle in found) or "nothing was recorded lately\n"


def _of(report: Report) -> ReportDocument:
    """A cycle as the status file has it, as far as it was recorded."""
    names = dict.fromkeys(name for guest in report.snapshot.guests.values() for name in guest.fields)
    return report_document(report, Declarations(), EngineState(), 0.0, fields=list(names))


def _about(described: Mapping[str, str], texts: Mapping[str, str], masked: int) -> str:
    lines = [
        f"A report about mom {__version__}, made by `mom bugreport` on {time.strftime('%Y-%m-%d %H:%M:%S %z')}.",
        *(f"  {name:<18} {words}{'' if texts[name].strip() else ' (empty)'}" for name, words in described.items()),
        f"{masked} secrets were masked. Neither the configuration file nor the environment is here.",
        "It names your guests and this host.",
    ]
    return "\n".join(lines) + "\n"


def _unwritable(path: Path, why: str | None) -> MomError:
    return MomError(f"{printable(str(path))} cannot be written: {why}", hint="-o names another file")


def _exists(path: Path) -> MomError:
    return MomError(f"{path} exists already, and stays as it is", hint="-o names another file")
