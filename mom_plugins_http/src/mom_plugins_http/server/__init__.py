"""HTTP server: connections, limits, and peers' identity."""
