"""The flight recorder: what mom saw, decided and did, cycle by cycle, in files that survive a crash and are read while they grow."""
