"""The commands of the category ``placement``."""
