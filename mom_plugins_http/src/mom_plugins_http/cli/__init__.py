"""What people type, and the client that it is asked through."""
