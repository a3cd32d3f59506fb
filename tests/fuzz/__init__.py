"""Random configurations and command lines, by seed."""
