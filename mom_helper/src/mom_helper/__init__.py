"""Root program for an unprivileged mom. Uses only the standard library."""
