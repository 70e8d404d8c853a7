"""Growth on credit: limits that keep guests from using up the host's remaining memory."""
