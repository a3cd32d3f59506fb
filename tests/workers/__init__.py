"""Runs through real workers: a real Redis, a real MariaDB, the installed program, and whatever may
end any of them.
"""
