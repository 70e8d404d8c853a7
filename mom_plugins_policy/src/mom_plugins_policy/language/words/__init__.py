"""Words of the language, for compiler, checks, reasons and documentation."""
