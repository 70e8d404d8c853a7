"""Code generation, in layers: text, variables, entities, builtins, forms."""
