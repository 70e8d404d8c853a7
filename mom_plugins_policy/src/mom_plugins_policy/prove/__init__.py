"""Whether a policy can set a control outside of bounds."""
