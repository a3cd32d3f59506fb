"""Helpers of the tests. What serves the tests of one folder only stands beside them.

- The program: ``command`` (run to its end or watched, installed or in this process), ``program``
  with ``hook`` (held up or killed at a chosen moment), ``instants`` (Ctrl-C at any line),
  ``moments`` (in JSON each has its zone).
- Without a server: ``demo_cloud`` (Nova's schema on SQLite), ``small_cloud`` (what Placement's
  commands read of it), ``memory_runs`` (workers whose runs are in memory), ``run_records`` (runs
  without cells), ``sqlite_placement``, ``stand_ins`` (libvirt).
- Servers: ``services`` (MariaDB, MySQL, Redis), ``placement`` with ``serve``, ``hypervisors``,
  ``pki`` (TLS).
- In between: ``relay`` (HTTP, answers in a service's stead), ``mysql_relay`` (cuts lines),
  ``listener`` (HTTP server).
- Clouds on MariaDB: ``realcloud`` (dumps of a real one), ``two_cells`` (empty), ``releases`` (as
  each makes them), ``unmigrated`` (before the data migrations), ``made_up`` (cells for hypothesis),
  ``many_cells`` (small ones on one server, and what a command needs for them).
- What may be wrong: ``hostile`` (a name that steers a terminal).
- Other: ``waiting`` (for a condition), ``pressure`` (a signal that a test moves), ``replica`` (a
  primary that has one).
- What is right: ``forest`` (what archiving must do), ``inventory`` (is all still there),
  ``late_rows`` (what others add meanwhile), ``schemas``, ``recorded`` (runs of the stock tool).
"""
