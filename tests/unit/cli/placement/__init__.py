"""Tests of the commands of ``cli/placement``."""
