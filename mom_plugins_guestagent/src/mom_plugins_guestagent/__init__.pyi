from .plugin import AgentAccess as AgentAccess
from .plugin import GuestAgentPlugin as GuestAgentPlugin
