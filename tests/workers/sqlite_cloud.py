"""A cloud on SQLite for workers whose databases are not the point."""

from pathlib import Path

from demo.cloud import build


class SqliteCloud:
    """The cloud of the demo, with cell0 and three cells."""

    def config(self, folder: Path) -> Path:
        """Make it anew; its nova.conf."""
        return build(folder / "cloud")
