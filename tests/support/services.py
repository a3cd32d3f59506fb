"""Private database servers: each on a port of its own, in a temporary folder, gone when the tests
are.
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import quote

import pymysql

HOST = "127.0.0.1"
# Seconds for a server to answer after its start, or to end; a loaded machine takes its time.
PATIENCE = 300.0
# Where distributions put servers, which is not always on the PATH of a plain user.
PLACES = (str(Path(sys.executable).parent), "/usr/sbin", "/usr/local/sbin", "/usr/libexec")
# Where tools/install-mysql.sh puts a server. Beside MariaDB, a mysqld on the PATH is mostly that
# one.
MYSQL = Path(__file__).parents[2] / ".tools" / "mysql" / "bin" / "mysqld"
# The numbers from 1 on, as MariaDB has them without any table.
SEQUENCE = re.compile(r"\b(seq_1_to_(\d+))\b")
# It outlives whoever is killed: its input ends with the process that holds the other end, whatever
# the reason.
GUARD = """
read -r _
if [ -f "$1/pid" ]; then kill -9 "-$(cat "$1/pid")"; sleep 1; fi
rm -rf "$1"
"""


class ServiceError(Exception):
    """A server did not do what the tests need."""


class MissingProgram(ServiceError):
    """A program that the tests start is not installed."""


def program(name: str) -> str:
    """The path of an installed program.

    :raises MissingProgram: there is none of that name
    """
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *PLACES)))
    if not found:
        raise MissingProgram(
            f"{name} is not installed, the tests need it: run tools/install-services.sh"
        )
    return found


def mysql_program() -> str:
    """The path of MySQL's server.

    :raises MissingProgram: there is none
    """
    if not MYSQL.exists():
        raise MissingProgram("There is no MySQL server for the tests: run tools/install-mysql.sh")
    return str(MYSQL)


def free_port() -> int:
    """A port that nobody listens on.

    From below the range of which the kernel takes the ports of outgoing connections: one of these
    could take the port while the server is down, or even connect to itself.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


class Service(ABC):
    """A server process with a folder of its own. As a context manager it is started and stopped.

    :ivar port: where it listens on 127.0.0.1, the same for its whole life
    :ivar folder: its data, its log; removed by ``stop``
    """

    PROGRAMS: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        """:raises MissingProgram: it is not installed"""
        self.name = type(self).__name__
        self.programs = {name: program(name) for name in self.PROGRAMS}
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"cellkeeper-{self.name.lower()}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = subprocess.Popen(
            ["sh", "-c", GUARD, "guard", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """Make what the server needs before its first start."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command line of the server, in the foreground, logging to its standard output or
        error.
        """

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server can be used."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether there is a process; it may be paused."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers.

        :raises ServiceError: it ended or stayed silent; the message has the end of its log
        """
        assert not self.running
        if self._process is None:
            self.prepare()
        process = self._spawn(self.command())
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            if process.poll() is not None:
                raise ServiceError(
                    f"{self.name} ended with exit code {process.returncode}.{self._end_of_log()}"
                )
            if time.monotonic() > deadline:
                self.kill()
                raise ServiceError(
                    f"{self.name} did not answer within {PATIENCE:g} s.{self._end_of_log()}"
                )
            time.sleep(0.02)

    def kill(self) -> None:
        """End the process as a power cut would. The data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            (self.folder / "pid").unlink(missing_ok=True)

    def restart(self) -> None:
        """Start the server on the same port with the same data; one that still runs is ended in
        order before.
        """
        self.end()
        self.start()

    def end(self) -> None:
        """End the process in order, if there is one. The data stay."""
        if self._process is not None and self.running:
            self.resume()
            self._process.terminate()
            self._process.wait(PATIENCE)

    def pause(self) -> None:
        """Stop the process from doing anything: it accepts connections and stays silent."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End a pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def revive(self) -> None:
        """Make the server answer again, after whatever a test did to it."""
        if self.running:
            self.resume()
        else:
            self.start()

    def stop(self) -> None:
        """End the server for good and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._guard.communicate()

    def run(self, *command: str) -> None:
        """Run a program to its end, its output in the log.

        :raises ServiceError: it failed
        """
        code = self._spawn(list(command)).wait()
        (self.folder / "pid").unlink()
        if code:
            raise ServiceError(f"{command[0]} ended with exit code {code}.{self._end_of_log()}")

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a program that the terminal's signals do not reach; the guard finds it by the file
        ``pid``.
        """
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        (self.folder / "pid").write_text(str(self._process.pid))
        return self._process

    def _end_of_log(self) -> str:
        lines = (self.folder / "log").read_text(errors="replace").splitlines()[-60:]
        return "".join(["\nThe end of its log:", *(f"\n    {line}" for line in lines)])


class MariaDB(Service):
    """A MariaDB server with a user ``nova`` who may do everything."""

    PROGRAMS = ("mariadbd", "mariadb-install-db")
    USER, PASSWORD = "nova", "nova-secret"

    def __init__(self, *options: str) -> None:
        """:param options: more options of the server, such as ``--max-connections=20``"""
        super().__init__()
        self._options = options
        self._as_root = ["--user=root"] if os.geteuid() == 0 else []

    def prepare(self) -> None:
        self.run(
            self.programs["mariadb-install-db"],
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-name-resolve",
            "--skip-test-db",
            f"--datadir={self.folder / 'data'}",
            # In a common one, each that starts deletes the temporary tables of the others.
            f"--tmpdir={self.folder}",
            "--innodb-log-file-size=16M",
            *self._as_root,
        )
        self._write_users()

    def _write_users(self) -> None:
        users = [f"{self.USER}@'{host}'" for host in ("%", "localhost")]
        lines = [
            f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{self.PASSWORD}';" for user in users
        ]
        lines += [f"GRANT ALL PRIVILEGES ON *.* TO {user} WITH GRANT OPTION;" for user in users]
        (self.folder / "users.sql").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [
            self.programs["mariadbd"],
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--tmpdir={self.folder}",
            f"--init-file={self.folder / 'users.sql'}",
            f"--bind-address={HOST}",
            f"--port={self.port}",
            # Inside of the data folder: a whole path may be too long for a socket.
            "--socket=server.sock",
            "--pid-file=server.pid",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--innodb-buffer-pool-size=128M",
            "--innodb-log-file-size=16M",
            "--innodb-flush-log-at-trx-commit=2",
            # Of each of some hundred small tables, a file and a wait for the disk would take most
            # of the time.
            "--loose-innodb-file-per-table=0",
            "--loose-innodb-flush-method=nosync",
            "--loose-sync-frm=0",
            *self._as_root,
            *self._options,
        ]

    def answers(self) -> bool:
        try:
            self.connect(connect_timeout=1, read_timeout=1).close()
        except pymysql.Error:
            return False
        return True

    def connect(self, database: str | None = None, **options: Any) -> "pymysql.Connection[Any]":
        """A connection of the server's own user, each statement a transaction unless ``options``
        say otherwise.
        """
        # Without ssl_disabled, each connection reads all the certificates of the machine first.
        settings: dict[str, Any] = {
            "charset": "utf8mb4",
            "autocommit": True,
            "ssl_disabled": True,
        } | options
        return pymysql.connect(
            host=HOST,
            port=self.port,
            user=self.USER,
            password=self.PASSWORD,
            database=database,
            **settings,
        )

    def execute(self, sql: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own; returns its rows."""
        with closing(self.connect(database)) as link, link.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def create(self, database: str) -> None:
        """Make an empty database, in the character set of Nova's."""
        self.execute(f"CREATE DATABASE `{database}` CHARACTER SET utf8mb3")

    def drop(self, database: str) -> None:
        """Remove a database, if it is there."""
        self.execute(f"DROP DATABASE IF EXISTS `{database}`")

    def url(self, database: str, user: str = USER, password: str = PASSWORD) -> str:
        """The URL of a database as nova.conf has it."""
        return f"mysql+pymysql://{quote(user, safe='')}:{quote(password, safe='')}@{HOST}:{self.port}/{database}"


class MySQL(MariaDB):
    """A MySQL server, used like one of MariaDB; its users log in as MySQL has it by default."""

    PROGRAMS = ()

    def __init__(self, *options: str) -> None:
        super().__init__(*options)
        self.programs["mysqld"] = mysql_program()

    def prepare(self) -> None:
        self.run(
            self.programs["mysqld"],
            "--no-defaults",
            "--initialize-insecure",
            *self._folders,
            *self._as_root,
        )
        self._write_users()

    def command(self) -> list[str]:
        return [
            self.programs["mysqld"],
            "--no-defaults",
            *self._folders,
            f"--init-file={self.folder / 'users.sql'}",
            f"--bind-address={HOST}",
            f"--port={self.port}",
            "--socket=server.sock",
            "--pid-file=server.pid",
            "--mysqlx=OFF",
            f"--secure-file-priv={self.folder}",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--innodb-buffer-pool-size=128M",
            "--innodb-redo-log-capacity=32M",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-file-per-table=0",
            *self._as_root,
            *self._options,
        ]

    def execute(self, sql: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement, in which the numbers that MariaDB has as ``seq_1_to_N`` stand in
        tables of that name.
        """
        for name, last in set(SEQUENCE.findall(sql)):
            self._make_sequence(name, int(last))
        return super().execute(SEQUENCE.sub(r"sequences.\1", sql), database)

    def _make_sequence(self, name: str, last: int) -> None:
        super().execute("CREATE DATABASE IF NOT EXISTS sequences")
        depth = f"/*+ SET_VAR(cte_max_recursion_depth = {last}) */"
        numbers = (
            "WITH RECURSIVE n AS (SELECT 1 AS seq UNION ALL SELECT seq + 1 FROM n WHERE seq "
            f"< {last})"
        )
        super().execute(
            f"CREATE TABLE IF NOT EXISTS sequences.{name} (seq INT PRIMARY KEY) {numbers} SELECT "
            f"{depth} seq FROM n"
        )

    @property
    def _folders(self) -> list[str]:
        return [f"--datadir={self.folder / 'data'}", f"--tmpdir={self.folder}"]


class Redis(Service):
    """A Redis server that has written down each change when it answers: a kill loses none.

    :ivar options: more options of its command line, from its next start on
    """

    PROGRAMS = ("redis-server",)

    def __init__(self, *options: str, password: str = "") -> None:
        """
        :param options: more options of the server, such as ``"--maxmemory", "10mb"``
        :param password: what a client must give; empty: nothing
        """
        super().__init__()
        self.password = password
        self.options = options

    def command(self) -> list[str]:
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "no",  # the kernel has it, which a killed process does not take along
            "requirepass": self.password,
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return [self.programs["redis-server"], *words, *self.options]

    def answers(self) -> bool:
        try:
            return "+PONG" in self.execute("PING", timeout=1)
        except OSError:
            return False

    def execute(self, *commands: str, timeout: float = 10) -> list[str]:
        """Run commands, each written as in a terminal; returns the lines of the replies as they
        come.
        """
        login = [f"AUTH {self.password}"] if self.password else []
        with socket.create_connection((HOST, self.port), timeout) as link:
            link.sendall("".join(f"{line}\r\n" for line in [*login, *commands, "QUIT"]).encode())
            with link.makefile("rb") as replies:
                lines = replies.read().decode().splitlines()
        return lines[len(login) : -1]

    def lose(self) -> None:
        """Remove all its data, while it is down."""
        assert not self.running
        shutil.rmtree(self.folder / "appendonlydir")

    def url(self, database: int = 0) -> str:
        """The URL of one of its numbered databases."""
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{login}{HOST}:{self.port}/{database}"
