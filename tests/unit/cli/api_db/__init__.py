"""Tests of the commands of ``cli/api_db``."""
