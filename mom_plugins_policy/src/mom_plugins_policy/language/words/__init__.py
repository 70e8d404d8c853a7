"""Words of the language. The compiler, the checks, the reasons and the documentation use these records."""
