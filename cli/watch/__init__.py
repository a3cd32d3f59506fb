"""The commands for whoever watches: check, metrics."""
