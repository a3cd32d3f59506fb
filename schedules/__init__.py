"""The schedule: which command line is due when, and the beat that starts it."""
