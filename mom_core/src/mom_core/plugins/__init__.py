"""Plugins: `discovery` imports them, `registry` constructs and checks them, `invoker` calls them."""
