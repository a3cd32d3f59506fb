"""Records of the store in Redis, read by many threads."""

import subprocess
import sys
from typing import Final

EXAMINED: Final = """
from dataclasses import dataclass
from msgspec import _utils, convert
from runs.records import CellRecord, Hold, Place, RunRecord, Summary
from runs.redis_codec import Unreadable, decode_record

def examine(kind):
    examined.append(kind.__name__)
    return get_class_annotations(kind)

@dataclass
class Unknown:
    pass

examined = []
get_class_annotations, _utils.get_class_annotations = _utils.get_class_annotations, examine
for kind in (CellRecord, RunRecord, Hold, Summary, list[Place]):
    try:
        decode_record("1 {}", kind)
    except Unreadable:
        pass
convert({}, Unknown)
print(*examined)
"""


def test_classes_of_records_are_examined_before_threads_read_any() -> None:
    """Two threads that have msgspec examine a class at the same time crash the process."""
    ended = subprocess.run(
        [sys.executable, "-c", EXAMINED], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "Unknown\n", "")
