"""The commands of the category ``db``."""
