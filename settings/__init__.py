"""The configuration: all options of all sections, the files they are read from, their errors."""
