"""What the commands of the category ``api_db`` do."""
