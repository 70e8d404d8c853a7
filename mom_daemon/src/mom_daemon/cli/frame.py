"""Command `mom`: its verbs and its error output."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import Final

import click

from mom_core import ConfigError, MomError, PluginError, __version__
from mom_core.plugins.bounded import describe, may_pass
from mom_daemon.cli.output import print_prose, safe_streams
from mom_daemon.cli.verbs import Verb, VerbGroup, what_it_lacks

EXIT_NO: Final = 1
EXIT_MISUSE: Final = 2
EXIT_BROKEN: Final = 70
"""Exit code for a bug in mom or a plugin: EX_SOFTWARE in sysexits.h."""
EXIT_INTERRUPTED: Final = 130

ENDING_SECONDS: Final = 1.0

VERBS: Final = {
    "run": Verb("mom_daemon.run:run_command", "Manage this host until SIGTERM, then restore all values.", "Operate"),
    "restore": Verb("mom_daemon.restore:restore_command", "Restore values that an earlier run of mom changed.", "Operate"),
    "status": Verb("mom_daemon.look.status:status_command", "Show the state of the host and of mom, and mom's last cycle.", "Look"),
    "guests": Verb("mom_daemon.look.status:guests_command", "Show all guests with their memory.", "Look"),
    "explain": Verb("mom_daemon.explain.verb:explain_command", "Explain the size of a guest.", "Look"),
    "doctor": Verb("mom_daemon.doctor:doctor_command", "Examine this host and print its faults with their fixes.", "Operate"),
    "fields": Verb("mom_daemon.plugins.verbs:fields_command", "List the fields and controls that policies can use.", "Look"),
    "config": Verb("mom_daemon.config.verbs:config_command", "Write, check and show the configuration.", "Change"),
    "plugin": Verb("mom_daemon.plugins.verbs:plugin_command", "List, show, create and check plugins.", "Write plugins"),
}


@click.group(
    "mom",
    cls=VerbGroup,
    verbs=VERBS,
    prefix="",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Exit codes: 0 success, 1 failure or a negative answer, 2 invalid command line or configuration. MOM_DEBUG=1 shows tracebacks.",
)
@click.version_option(__version__, "--version", message="mom %(version)s")
@click.pass_context
def mom(ctx: click.Context) -> None:
    """Manage memory overcommitment on a KVM host.

    `mom` alone shows whether mom runs, and the next commands to type.
    """
    if ctx.invoked_subcommand is None:
        from mom_daemon.look.here import look_around

        look_around(demo="demo" in mom.list_commands(ctx))


def run(arguments: Sequence[str] | None = None, command: click.Command | None = None) -> int:
    """Run a command line, print its errors, and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a guest's name that the terminal cannot encode must not end a command
    code = 0
    try:
        with safe_streams():
            code = _run(arguments, command or mom)
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # After a broken pipe, nobody reads. With another code, the verb has printed this error.
        if not code and not isinstance(error, BrokenPipeError):
            _tell(f"mom: the output cannot be written: {error.strerror or error}")
        code = EXIT_NO
    _discard_unwritable_output()
    return code


def run_program(command: click.Command) -> int:
    """Run this process's command line. Threads that remain get a second before the process ends."""
    code = run(None, command)
    threading.Thread(target=_end_later, args=(code,), daemon=True).start()
    return code


def _end_later(code: int) -> None:
    time.sleep(ENDING_SECONDS)
    left = [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
    _tell(f"mom: these threads did not end: {', '.join(left)}")
    os._exit(code)


def _run(arguments: Sequence[str] | None, command: click.Command) -> int:
    try:
        arguments = None if arguments is None else list(arguments)
        result = command.main(args=arguments, prog_name=command.name, standalone_mode=False, color=_colours())
    except (click.exceptions.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        _tell_misuse(error)
        return error.exit_code
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        _tell(f"mom: {error.code}")
        return EXIT_NO
    except Exception as error:  # noqa: BLE001  # the outermost handler: operators get an error line, not a traceback
        code = _tell_error(error)
        if os.environ.get("MOM_DEBUG", "") not in ("", "0"):
            _tell("".join(traceback.format_exception(error)).rstrip())
        return code
    # After `ctx.exit`, click returns the exit code, otherwise the command's return value.
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def _colours() -> bool | None:
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def _tell_misuse(error: click.ClickException) -> None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        _tell(context.get_help())  # a group without a verb
        return
    message = error.format_message()
    _tell(f"mom: {message[:1].lower()}{message[1:]}")
    if context is not None:
        _tell(f"{context.command_path} --help lists commands and options")


def _tell_error(error: Exception) -> int:
    if isinstance(error, ConfigError):
        for problem in error.problems:
            _tell(str(problem) if problem.line else f"mom: {problem}")
    elif isinstance(error, MomError):
        for part in error.errors if isinstance(error, PluginError) else [error]:
            _tell(f"mom: {part}")
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        _tell(f"mom: {where}{error.strerror or error} (MOM_DEBUG=1 shows more)")
    elif lacking := what_it_lacks(error):
        _tell(f"mom: this command {lacking[0]} ({lacking[1]})")
        return EXIT_NO
    else:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
        where = f"{frames[-1].filename}:{frames[-1].lineno}"
        _tell(f"mom: a bug in mom or in a plugin, at {where}: {describe(error)} (MOM_DEBUG=1 shows more)")
        return EXIT_BROKEN
    for note in getattr(error, "__notes__", ()):
        _tell(f"mom: {note}")
    return EXIT_MISUSE if isinstance(error, ConfigError | PluginError | ValueError) and not may_pass(error) else EXIT_NO


def _tell(text: str) -> None:
    from mom_core.texts import printable_lines

    with suppress(OSError):
        print_prose(printable_lines(text), 2, err=True)


def _discard_unwritable_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError, AttributeError):  # it is closed, or there is none
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
