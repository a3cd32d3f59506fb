"""Tests of the commands of ``cli/db``."""
