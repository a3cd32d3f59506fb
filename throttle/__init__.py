"""Whether a database server suffers: signals, and when the work on it pauses."""
