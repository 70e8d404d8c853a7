"""Flight recorder: mom's cycles in files that survive a crash and can be read while they grow."""
