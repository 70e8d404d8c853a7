from .plugin import GuestAgentPlugin as GuestAgentPlugin
