"""The configuration: all options of all sections that are read, in which files, what can be wrong."""
