"""`mom config`: drafts, checks and schemas."""
