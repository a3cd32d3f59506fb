"""The numbers that MySQL, MariaDB and their clients give to errors."""

from typing import Final

UNKNOWN_DATABASE: Final = 1049
CANNOT_CONNECT: Final = 2003
LOST: Final = 2013
TLS_FAILED: Final = 2026
# A node of Galera that has lost the others takes no statement, and could not commit.
WITHOUT_QUORUM: Final = frozenset({1047, 1180})
# Errors that pass by themselves: deadlock, lock wait, lost Galera certification, too many
# connections, a row that changed under a snapshot, a table that is being altered, a server that
# shuts down or went away, a connection that somebody killed.
TRANSIENT: Final = WITHOUT_QUORUM | {
    *(
        1020,
        1040,
        1053,
        1203,
        1205,
        1213,
        1226,
        1684,
        1927,
        CANNOT_CONNECT,
        2006,
        LOST,
        2014,
        2055,
        4031,
    )
}
# Of these, what happens when transactions meet at the same rows: lock wait; deadlock or lost
# certification.
CONTENDED: Final = frozenset({1205, 1213})
# The transaction is too large for the server: bytes in the cache of the binary log, locks.
TOO_LARGE: Final = frozenset({1197, 1206})
# The same on Galera, in bytes and in rows. Other errors share the numbers, but not these words.
WRITE_SET_TOO_LARGE: Final = {1105: "writeset size", 1180: "wsrep_max_ws_rows"}
# A change of a schema that somebody else has just made: the table, column or index exists already,
# or no longer.
ALREADY_CHANGED: Final = frozenset({1050, 1051, 1060, 1061, 1091})
# The user lacks a privilege.
ACCESS_DENIED: Final = frozenset({1044, 1045, 1142, 1143, 1227})
# The server ended a statement at the time limit of its session: MariaDB, MySQL.
OVER_TIME: Final = frozenset({1969, 3024})
