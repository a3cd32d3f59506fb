"""Recorded runs of the stock tool's category ``placement``, to be done again: see
tests/data/recorded/README.md.
"""

import pytest

pytest.register_assert_rewrite("tests.support.recorded.replay")
