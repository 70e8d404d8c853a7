"""Root program for an unprivileged mom: `python3 -I -S …/mom_helper`. Uses only the standard library."""
