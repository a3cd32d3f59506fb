"""Commands on a Galera cluster whose nodes are killed, cut off, or take no large write sets: ``make
test-galera``.
"""
