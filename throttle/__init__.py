"""Whether a database server is under pressure: its signals, and when the work on it pauses."""
