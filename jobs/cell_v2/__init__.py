"""What the actions of the category ``cell_v2`` do."""
