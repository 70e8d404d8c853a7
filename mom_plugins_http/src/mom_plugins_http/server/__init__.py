"""The server: connections, their limits, and who is at the other end."""
