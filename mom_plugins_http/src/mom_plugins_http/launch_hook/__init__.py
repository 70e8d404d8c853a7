"""Launch hook: program that asks mom for memory before a guest starts."""
