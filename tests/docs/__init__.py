"""What the documents print: commands that run, options and files that exist."""
