"""The coordinator: which guests go where."""
