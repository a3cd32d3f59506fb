"""At which of a command's statements its connection is cut: at every n-th, from a random one of the
first n on.

``CELLKEEPER_CUTS`` says how many cuts of each kind a command gets at most (all: one at each
statement), and ``CELLKEEPER_CUT_SEED`` where they begin: other seeds cut at other statements.
"""

import os
import random
from typing import Final

SEED: Final = os.environ.get("CELLKEEPER_CUT_SEED", "1")
CUTS: Final = os.environ.get("CELLKEEPER_CUTS", "12")


def cut_points(statements: int, case: str) -> range:
    """The numbers of the statements at which a line is cut.

    :param statements: how many the command sends
    :param case: names the command and the kind of cut: each begins elsewhere
    """
    step = 1 if CUTS == "all" else -(-statements // int(CUTS))
    return range(random.Random(f"{SEED} {case}").randrange(step), statements, step)
