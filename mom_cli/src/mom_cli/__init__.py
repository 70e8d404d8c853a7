"""The verbs that people look with: `mom status`, `guests`, `explain`, `doctor`, `fields`, `config` and `plugin`.

What is named here is public: plugins import it in their own verbs, and where they show what these verbs show; importers of other programs'
configurations return what stands here. A host that only runs mom needs none of it. Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_WHERE = {
    "alike": ("CommonProblem", "common_problems"),
    "declared": ("declarations_of",),
    "explanation": ("Explainers", "Explanation", "find_guest"),
    "imported": ("Imported", "ImportedSection", "Importer", "read_foreign"),
    "sources": ("newest", "recording", "running_mom"),
    "tables": ("Column", "print_table"),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "Column",
    "CommonProblem",
    "Explainers",
    "Explanation",
    "Imported",
    "ImportedSection",
    "Importer",
    "__version__",
    "common_problems",
    "declarations_of",
    "find_guest",
    "newest",
    "print_table",
    "read_foreign",
    "recording",
    "running_mom",
]

if TYPE_CHECKING:
    from mom_cli.alike import CommonProblem as CommonProblem
    from mom_cli.alike import common_problems as common_problems
    from mom_cli.declared import declarations_of as declarations_of
    from mom_cli.explanation import Explainers as Explainers
    from mom_cli.explanation import Explanation as Explanation
    from mom_cli.explanation import find_guest as find_guest
    from mom_cli.imported import Imported as Imported
    from mom_cli.imported import ImportedSection as ImportedSection
    from mom_cli.imported import Importer as Importer
    from mom_cli.imported import read_foreign as read_foreign
    from mom_cli.sources import newest as newest
    from mom_cli.sources import recording as recording
    from mom_cli.sources import running_mom as running_mom
    from mom_cli.tables import Column as Column
    from mom_cli.tables import print_table as print_table


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'mom_cli' has no attribute {name!r}")
    value: object = getattr(import_module(f"mom_cli.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
