"""The category ``runs``."""
