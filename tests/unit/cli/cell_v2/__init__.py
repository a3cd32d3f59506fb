"""Tests of the commands of ``cli/cell_v2``."""
