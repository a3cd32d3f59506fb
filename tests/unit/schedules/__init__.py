"""Tests of the room ``schedules``."""
