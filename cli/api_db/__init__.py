"""The commands of the category ``api_db``."""
