"""The policy language: the reader makes forms, the compiler makes code, the runtime evaluates it. `words` holds a record per word."""
