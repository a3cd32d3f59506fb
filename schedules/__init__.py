"""The beat table: when which command line is started, and the beat that starts it."""
