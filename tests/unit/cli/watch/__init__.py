"""Tests of the commands of ``cli/watch``."""
