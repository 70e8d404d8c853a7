"""Program that runs as root, and does for mom what needs root. It uses only the standard library."""
