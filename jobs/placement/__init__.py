"""What the commands of the category ``placement`` do."""
