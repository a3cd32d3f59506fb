"""What a person sees in a real browser; ``make test-flower`` installs it."""
