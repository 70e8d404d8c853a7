"""The policy language: the reader makes forms, the compiler makes code, the runtime evaluates it. `words` describes each word."""
