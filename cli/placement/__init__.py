"""The category ``placement``."""
