"""What each action does to one cell, and how the cells' outcomes collapse into the exit code."""
