"""A small cloud of SQLite files to try the maintenance jobs on: no server, no broker, no root."""
