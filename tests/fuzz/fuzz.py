"""Fuzz one target, guided by coverage: `fuzz.py TARGET FOUND_FOLDER [libFuzzer options and corpus folders]`. `nox -s fuzz` runs this."""

import sys
from collections.abc import Sequence
from importlib import import_module

atheris = import_module("atheris")  # by name: only the session fuzz installs it, and it has no types

PLUGINS = ["fleet", "guestagent", "http", "libvirt", "policy", "qemu", "sim", "vdsm"]

if sys.argv[1] in {"request", "state_file"}:
    PLUGINS.remove("policy")  # these targets run mom, which limits the time for compiling default policies

with atheris.instrument_imports(include=["mom_core", "mom_kvm", *(f"mom_plugins_{name}" for name in PLUGINS)]):
    from targets import TARGETS


def main(arguments: Sequence[str]) -> None:
    """Run until libFuzzer's limits. An unexpected exception ends the run and saves the input."""
    name, *options = arguments[1:]
    TARGETS[name](b"")  # build cached objects outside of any input's time
    atheris.Setup([arguments[0], *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
