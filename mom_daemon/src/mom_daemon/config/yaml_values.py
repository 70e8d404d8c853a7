"""Values as YAML on one line."""

from __future__ import annotations

import json
import re
from typing import Final

from pydantic import BaseModel

from mom_core.config.schema import written


def default_texts(model: type[BaseModel]) -> dict[str, str]:
    """Return default settings as YAML, keyed by name."""
    return {name: yaml_value(value) for name, value in written(model.model_construct()).items()}


_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def yaml_value(value: object) -> str:
    """Format a value as YAML on one line."""
    if isinstance(value, str) and value.lower() not in _WORDS and re.fullmatch(r"[\w/](?:[\w./:@+-]*[\w/])?", value, re.ASCII):
        return value if not re.fullmatch(r"[\d.eExXoO_+-]+|0[xX][\da-fA-F_]+", value) else json.dumps(value)
    return json.dumps(value, ensure_ascii=False)
