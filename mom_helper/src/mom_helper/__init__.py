"""Small program that runs as root, so that mom does not: `python3 -I -S …/mom_helper`. It uses the standard library only."""
