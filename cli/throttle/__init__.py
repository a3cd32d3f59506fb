"""The category ``throttle``: what the database servers suffer now."""
