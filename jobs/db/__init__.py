"""The actions of the category ``db``."""
