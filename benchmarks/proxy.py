"""A proxy that makes a server answer late, as one far away does. Runs as a process of its own."""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

HOST: Final = "127.0.0.1"
CHUNK: Final = 1 << 16


@contextmanager
def delayed(port: int, delay: float) -> Iterator[int]:
    """A port on which the server of another port answers late.

    :param delay: seconds that each answer takes longer; answers on several connections do not wait
        for each other
    """
    command = [sys.executable, "-m", "benchmarks.proxy", str(port), str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def _serve(port: int, delay: float) -> None:
    async def handle(from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(HOST, port)
        with suppress(ConnectionError):
            await asyncio.gather(
                _forward(from_client, to_server, 0), _forward(from_server, to_client, delay)
            )

    server = await asyncio.start_server(handle, HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay: float) -> None:
    """Copy one direction of a connection, each piece ``delay`` seconds after it came."""
    now = asyncio.get_running_loop().time
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, piece = await pieces.get()
            if not piece:
                break
            if (wait := due - now()) > 0:
                await asyncio.sleep(wait)
            sink.write(piece)
            await sink.drain()

    delivery = asyncio.create_task(deliver())
    try:
        while piece := await source.read(CHUNK):
            pieces.put_nowait((now() + delay, piece))
    finally:
        pieces.put_nowait((0.0, b""))
        with suppress(ConnectionError):
            await delivery
        sink.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, help="of the server")
    parser.add_argument("delay", type=float, help="seconds")
    given = parser.parse_args()
    asyncio.run(_serve(given.port, given.delay))


if __name__ == "__main__":
    main()
