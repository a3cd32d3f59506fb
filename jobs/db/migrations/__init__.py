"""The online data migrations: a module per group, ``order`` lists them all."""
