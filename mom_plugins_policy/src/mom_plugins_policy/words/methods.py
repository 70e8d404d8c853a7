"""The methods of entities and disks."""

from __future__ import annotations

from mom_plugins_policy.words.word import Word

_METHODS = (
    Word(name="Prop", least=1, most=1, meaning="a property, such as the name"),
    Word(name="Stat", least=1, most=2, meaning="the newest value of a field; the second argument if the newest sample lacks it"),
    Word(name="StatAvg", least=1, most=1, meaning="the mean of a field over the samples that are kept; 0.0 if there is no value"),
    Word(name="Control", least=2, most=2, meaning="asks for a control to be set"),
    Word(name="GetControl", least=1, most=1, meaning="what was asked for in this evaluation"),
    Word(name="SetVar", least=2, most=2, meaning="a note on the entity for this evaluation"),
    Word(name="GetVar", least=1, most=1, meaning="a note of this evaluation, else nil"),
    Word(name="Remember", least=2, most=2, meaning="a note on the entity that is kept across cycles and restarts; nil forgets it"),
    Word(name="Recall", least=1, most=2, meaning="what was remembered in this or an earlier evaluation, else the second argument or nil"),
)

ENTITY_METHODS = {word.name: word for word in _METHODS}

DISK_METHODS = {
    "setTotalBytesSec": "total_bytes_sec",
    "setReadBytesSec": "read_bytes_sec",
    "setWriteBytesSec": "write_bytes_sec",
    "setTotalIopsSec": "total_iops_sec",
    "setReadIopsSec": "read_iops_sec",
    "setWriteIopsSec": "write_iops_sec",
}
"""The methods of an io tune object, each with the key of `current` that it sets. One argument: a number, or nil."""
