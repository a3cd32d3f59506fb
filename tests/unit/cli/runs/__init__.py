"""Tests of the commands of ``cli/runs``."""
