"""Exit codes that mean the same with most commands."""

from typing import Final

UNEXPECTED: Final = 255
"""An error that the command's own codes have no word for; of the manual."""
