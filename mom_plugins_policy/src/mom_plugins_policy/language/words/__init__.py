"""Words of the language, as records for the compiler, the checks, the reasons and the documentation."""
