"""Nova's databases: where they are, how to reach them, what is in them."""
