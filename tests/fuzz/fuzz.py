"""Fuzzes one target, guided by coverage: `fuzz.py TARGET FOUND_FOLDER [libFuzzer options and corpus folders]`. `nox -s fuzz` calls it."""

import sys
from collections.abc import Sequence
from importlib import import_module

atheris = import_module("atheris")  # by name: it is there only for the session fuzz, and has no types

PLUGINS = ["fleet", "guestagent", "http", "libvirt", "policy", "qemu", "sim", "vdsm"]

if sys.argv[1] in {"request", "state_file"}:
    PLUGINS.remove("policy")  # these targets run a mom, in which it has seconds to compile and check the default policies

with atheris.instrument_imports(include=["mom_core", "mom_kvm", *(f"mom_plugins_{name}" for name in PLUGINS)]):
    from targets import TARGETS


def main(arguments: Sequence[str]) -> None:
    """Run until libFuzzer's own limits end it; an exception that the target does not expect ends it at once, and keeps the input."""
    name, *options = arguments[1:]
    TARGETS[name](b"")  # what is built once takes its time, and no input's
    atheris.Setup([arguments[0], *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
