"""The names of the law's fields and control."""

from __future__ import annotations

from typing import Final

SUGGESTED: Final = "balloon_suggested"
"""The field with the size that the law suggests; unknown where a guest keeps what it has."""

REASON: Final = "balloon_reason"
"""The field with the code of the reason, as `law.ReasonCode`."""
