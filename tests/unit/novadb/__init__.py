"""Tests of the room ``novadb``."""
