"""`mom config`: drafts, checks, schemas, and imports of other programs' configurations."""
