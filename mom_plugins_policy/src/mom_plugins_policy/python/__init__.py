"""Names that policies in Python import."""

from mom_core import Decision
from mom_plugins_policy.python.entities import GiB, Guest, Host, KiB, MiB, TiB
from mom_plugins_policy.python.plugin import PypolicyPlugin

__all__ = ["Decision", "GiB", "Guest", "Host", "KiB", "MiB", "PypolicyPlugin", "TiB"]
