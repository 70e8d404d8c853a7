"""Statistics from inside the guests for mom: qemu-guest-agent, and mom-guestd."""

from mom_plugins_guestagent.plugin import GuestAgentPlugin

__all__ = ["GuestAgentPlugin"]
__version__ = "0.1.0"
