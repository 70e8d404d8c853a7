"""HTTP server: connections, their limits, and the identity of peers."""
