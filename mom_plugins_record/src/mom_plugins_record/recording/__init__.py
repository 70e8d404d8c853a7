"""Flight recorder: each cycle of mom, in files that survive a crash and are readable while they grow."""
