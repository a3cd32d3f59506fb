"""The command line: options in; tables, progress and exit code out."""
