"""What the commands of the category ``placement`` do to one cell."""
