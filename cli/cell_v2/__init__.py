"""The commands of the category ``cell_v2``."""
