"""How forms become Python: the text of the code, variables, entities, builtins and forms, one on top of the other."""
