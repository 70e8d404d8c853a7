"""Plugins: `discovery` finds and imports them, `registry` constructs and checks them, `invoker` calls them."""
