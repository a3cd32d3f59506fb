"""Run benchmarks: ``python -m benchmarks [NAME ...] [--quick] [--stock COMMAND]``."""

import argparse
from typing import Final, Protocol

from benchmarks import (
    archive,
    empty,
    heal,
    late,
    machine,
    machine_types,
    many,
    mapping,
    memory,
    migrations,
    neighbour,
    providers,
    workers,
)
from benchmarks.cloud import SETTINGS


class Benchmark(Protocol):
    """Measures and returns a text with markdown tables."""

    def __call__(self, *, quick: bool, stock: str | None) -> str: ...


BENCHMARKS: Final[dict[str, Benchmark]] = {
    "archive": archive.run,
    "neighbour": neighbour.run,
    "memory": memory.run,
    "late": late.run,
    "empty": empty.run,
    "heal": heal.run,
    "migrations": migrations.run,
    "workers": workers.run,
    "many": many.run,
    "providers": providers.run,
    "mapping": mapping.run,
    "machine_types": machine_types.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure cellkeeper on this machine."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="less exact, in a few minutes")
    parser.add_argument(
        "--stock", metavar="COMMAND", help="the stock nova-manage, to compare with it too"
    )
    given = parser.parse_args()
    if unknown := set(given.names) - BENCHMARKS.keys():
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    print(f"{machine.describe()}; server settings: `{' '.join(SETTINGS)}`", flush=True)
    for name in given.names or BENCHMARKS:
        print(
            f"\n### {name}\n\n{BENCHMARKS[name](quick=given.quick, stock=given.stock)}", flush=True
        )


if __name__ == "__main__":
    main()
