"""Commands whose connections are cut, at each statement in turn. They take minutes: ``make test-connections``."""
