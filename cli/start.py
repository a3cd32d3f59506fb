"""The first instructions of the program: from here on a signal ends it in order, while all else is
still imported.
"""

import os
import signal

INTERRUPTED = "Interrupted."
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the program and end the process with the command's exit code."""
    signal.signal(signal.SIGINT, leave_at_once)
    from cli.signals import watch

    watch.begin()
    from cli import main as program

    program.main()


def leave_at_once(*_: object) -> None:
    """Handle Ctrl-C where nothing has begun."""
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
