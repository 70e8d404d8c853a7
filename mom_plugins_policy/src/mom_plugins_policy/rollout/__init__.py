"""How policies come into force: changes while mom runs, their versions, and trials."""
