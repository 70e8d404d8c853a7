"""The old daemon: its command line, and its configuration as one of mom's."""
