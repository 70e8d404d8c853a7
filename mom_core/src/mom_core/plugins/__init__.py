"""Plugins: found by `discovery`, constructed and checked by `registry`, called by `invoker`."""
