"""The numbers that MySQL, MariaDB and their clients give to errors."""

from typing import Final

UNKNOWN_DATABASE: Final = 1049
CANNOT_CONNECT: Final = 2003
LOST: Final = 2013
TLS_FAILED: Final = 2026
# Errors that go away by themselves: deadlock, lock wait, lost Galera certification, a node that is not
# ready, too many connections, a row changed under a snapshot, a look at a table that somebody is altering, a server
# that shuts down or went away, a connection that somebody killed.
TRANSIENT: Final = frozenset(
    {1020, 1040, 1047, 1053, 1203, 1205, 1213, 1226, 1684, 1927, CANNOT_CONNECT, 2006, LOST, 2014, 2055, 4031}
)
# The server's words for a change that somebody else has just made: there is such a table, column or index already, or
# no more.
MADE: Final = frozenset({1050, 1051, 1060, 1061, 1091})
