"""Words of the language, one record each, for the compiler, checks, reasons and pages."""
