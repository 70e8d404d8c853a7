from .plugin import GuestAgentPlugin as GuestAgentPlugin

__version__: str
