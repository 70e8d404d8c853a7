"""Running a policy on symbols instead of numbers: what it would compute from any snapshot, as terms over the fields that it reads."""
