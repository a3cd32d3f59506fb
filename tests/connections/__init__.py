"""Commands whose connection is cut, at each statement in turn. They take long: ``make
test-connections``.
"""
