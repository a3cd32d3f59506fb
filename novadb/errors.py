"""What can be wrong with a database, in words an operator can act on."""


class DatabaseProblem(Exception):
    """A database cannot be used.

    The text names the database and what to do. It never holds a URL or a password.
    """


class Unreachable(DatabaseProblem):
    """The database refuses the connection, does not answer, or went away."""


class MissingDatabase(Unreachable):
    """The server answers, and has no database of that name."""


class UnsuitableSchema(DatabaseProblem):
    """The database answers, but its tables are not what the work needs."""
