"""`mom plugin` and `mom fields`: the installed plugins and their declarations."""
