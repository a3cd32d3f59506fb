"""Tests of the commands of ``cli/schedule``."""
