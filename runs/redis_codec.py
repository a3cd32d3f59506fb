"""How records are written in Redis: a version, a space, and JSON; and what a worker tells of
itself.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from runs.records import FORMAT, CellRecord, CellRef, Hold, Place, RunRecord, Summary
from throttle.readings import ServerState

T = TypeVar("T")


class Unreadable(Exception):
    """A record is none that this version knows.

    :ivar version: of the record, with which it is replaced
    """

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.version = version


class SignOfLife(msgspec.Struct):
    """What a worker tells of itself.

    :ivar serves: uuids of its cells; None: all
    """

    serves: list[str] | None
    format: int = FORMAT


def encode_record(record: Any, version: int) -> str:
    return f"{version} {msgspec.json.encode(record, enc_hook=lambda _: None).decode()}"


def decode_record(
    record: str, kind: type[T], is_sound: Callable[[T], bool] = lambda _: True
) -> tuple[T, int]:
    """A record, and its version.

    :param is_sound: whether what it says makes sense
    :raises Unreadable: it is none of this kind
    """
    version, _, text = record.partition(" ")
    number = int(version) if version.isdecimal() else 0
    try:
        decoded = decode_json(text, kind)
    except (msgspec.MsgspecError, RecursionError):
        raise Unreadable(number) from None
    if not is_sound(decoded):
        raise Unreadable(number)
    return decoded, number


# Made while the module is imported, by one thread: two that have msgspec examine a class at the
# same time crash the process.
_DECODERS: Final[Mapping[Any, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(kind, dec_hook=lambda _, value: value)
    for kind in (
        RunRecord,
        CellRecord,
        Hold,
        Summary,
        ServerState,
        SignOfLife,
        list[Place],
        list[CellRef],
        frozenset[str],
    )
}


def decode_json(text: str, kind: type[T]) -> T:
    """A document as one of the types that are kept.

    :raises msgspec.MsgspecError: it is none of them
    """
    decoded: T = _DECODERS[kind].decode(text)
    return decoded
