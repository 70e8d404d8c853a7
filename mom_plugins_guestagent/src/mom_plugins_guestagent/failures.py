"""Why a guest gave no figures. Each kind has its consequence: see `collector`."""

from __future__ import annotations

from mom_core import MomError


class NoAnswer(MomError):
    """There is no agent, or it did not answer in time: the way is tried again later, at growing intervals."""


class RefusedByAgent(MomError):
    """The agent answered that it will not, or cannot: this command is disabled, that file does not exist."""


class Misbehaves(MomError):
    """The guest answered what was not asked, or too much. It is believed nothing, and reported."""
