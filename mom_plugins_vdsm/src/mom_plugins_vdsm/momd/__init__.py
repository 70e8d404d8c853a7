"""MOM's old daemon: its command line and its configuration."""
