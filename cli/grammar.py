"""nova-manage's grammar on Click: global options anywhere, abbreviations, both spellings, aliases.

The stock tool parses with argparse, which takes any unambiguous beginning of a long option. Options
that the stock tool does not know, and global options behind a command, must be written in full.
"""

import re
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import click

from cli.output import put
from cli.version import reported_version
from jobs.exit_codes import UNEXPECTED

MISCONFIGURED: Final = 78
"""EX_CONFIG of sysexits.h, which systemd shows as CONFIG."""


class Option(click.Option):
    """An option of the stock tool, which may be abbreviated; ``new=True``: one of our own, which
    may not.

    :ivar begins: what its value begins with, as a pattern, where its name is an abbreviation in the
        stock tool: before anything else it still is
    """

    def __init__(self, *args: Any, new: bool = False, begins: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.new = new
        self.begins = begins


class _Spelling:
    """Rewrites the words of a command line into what Click understands."""

    def __init__(self, params: Sequence[click.Parameter]) -> None:
        self.options = [param for param in params if isinstance(param, click.Option)]
        self.options.append(Option(["--help"], is_flag=True))
        self.by_name = {
            name: option
            for option in self.options
            for name in (*option.opts, *option.secondary_opts)
        }

    def rewrite(self, words: Sequence[str], stop_at_command: bool) -> list[str]:
        """Write options in full. Values of options, and what follows ``--``, stay as they are."""
        done: list[str] = []
        rest = deque(words)
        while rest:
            word = rest.popleft()
            name, equals, value = word.partition("=")
            if word == "--" or (stop_at_command and not word.startswith("-")):
                return [*done, word, *rest]
            if word.startswith("--"):
                name = self._full(name, value if equals else rest[0] if rest else "")
            done.append(name + equals + value)
            if not equals and self._takes_value(name) and rest:
                done.append(rest.popleft())
        return done

    def _takes_value(self, name: str) -> bool:
        """Whether the word behind this one is its value. ``-df`` takes one if ``-f`` does."""
        if not name.startswith("--") and name.startswith("-"):
            letters = [self.by_name.get(f"-{letter}") for letter in name[1:]]
            takers = [
                position for position, option in enumerate(letters) if option and not option.is_flag
            ]
            return bool(takers) and takers[0] == len(letters) - 1
        option = self.by_name.get(name)
        return option is not None and not option.is_flag and not option.count

    def _full(self, name: str, value: str) -> str:
        """The whole name of an option.

        :param value: what follows it
        """
        swapped = name[:2] + name[2:].replace("-", "\0").replace("_", "-").replace("\0", "_")
        for spelling in (name, *(known for known in self.by_name if _same(known, name))):
            option = self.by_name.get(spelling)
            if option and re.match(getattr(option, "begins", ""), value):
                return spelling
        found = {
            known: option
            for known, option in self.by_name.items()
            if known.startswith((name, swapped)) and isinstance(option, Option) and not option.new
        }
        if (
            len({(id(option), known in option.secondary_opts) for known, option in found.items()})
            > 1
        ):
            raise click.UsageError(
                f"{name} is ambiguous: it could be {' or '.join(sorted(found))}."
            )
        return next(iter(found), name)


def _same(one: str, two: str) -> bool:
    return one.replace("_", "-") == two.replace("_", "-")


class Command(click.Command):
    """A command of the stock tool.

    :ivar unexpected: its exit code for an error that nobody thought of
    """

    def __init__(self, *args: Any, unexpected: int = UNEXPECTED, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.unexpected = unexpected
        self.epilog = "The options that cellkeeper --help shows apply here, too."
        self.params += _global_options(new=True)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _Spelling(self.params).rewrite(args, stop_at_command=False))

    def invoke(self, ctx: click.Context) -> Any:
        codes = {"unexpected": self.unexpected, "misconfigured": self.misconfigured}
        ctx.find_root().ensure_object(dict).update(codes)
        return super().invoke(ctx)

    @property
    def misconfigured(self) -> int:
        """Its exit code where the configuration cannot be used."""
        return self.unexpected


class Service(Command):
    """A command that works until a signal ends it. A supervisor must know what it need not start
    again.
    """

    misconfigured = MISCONFIGURED


class Category(click.Group):
    """A category of commands, or the program itself. Without a command it lists them and ends with
    2.

    :ivar aliases: other names of commands, as the manual's own text has them; not listed
    """

    command_class = Command

    def __init__(self, *args: Any, aliases: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.invoke_without_command = True
        self.no_args_is_help = False
        self.aliases = aliases or {}
        self.params += _global_options(new=False)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _Spelling(self.params).rewrite(args, stop_at_command=True))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands; before them, of the program itself, the categories on a line, as
        scripts look for them.
        """
        if ctx.parent is None:
            categories = sorted(
                name for name, command in self.commands.items() if isinstance(command, Category)
            )
            with formatter.section("Command categories"):
                formatter.write_text(f"{{{','.join(categories)}}}")
        super().format_commands(ctx, formatter)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))

    def invoke(self, ctx: click.Context) -> Any:
        if not ctx._protected_args and not ctx.args:
            put(f"{ctx.command_path} <{'command' if ctx.parent else 'category'}>, one of:")
            put("")
            names = self.list_commands(ctx)
            for name in names:
                put(
                    f"  {name:{max(map(len, names))}}  {self.commands[name].get_short_help_str(80)}"
                )
            return 2
        return super().invoke(ctx)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep a global option as oslo.config wants it: a word of its command line, given here or
    further left.
    """
    words: list[str] = ctx.find_root().ensure_object(dict).setdefault("words", [])
    name = param.opts[0]
    if isinstance(value, bool):
        words.append(name if value else param.secondary_opts[0])
    elif value:
        words += [f"{name}={one}" for one in (value if isinstance(value, tuple) else [value])]


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        put(reported_version())
        ctx.exit()


def _global_options(new: bool) -> list[click.Parameter]:
    """The options of the manual's section Options, in its order.

    :param new: whether they must be written in full, as behind a command
    """

    def option(*names: str, **kwargs: Any) -> Option:
        return Option(names, new=new, expose_value=False, callback=_remember, hidden=new, **kwargs)

    def files(*names: str, **kwargs: Any) -> Option:
        """What names files of the configuration, which --version reads wherever it stands."""
        return option(*names, multiple=True, is_eager=True, **kwargs)

    path = click.Path(dir_okay=False)
    return [
        files("--config-dir", metavar="DIR", help="Read the *.conf files of a directory as well."),
        files("--config-file", metavar="PATH", help="Read this file; the last one given wins."),
        option("--log-config-append", "--log-config", "--log_config", metavar="PATH", type=path,
               help="Configure logging from this file alone."),
        option("--log-date-format", metavar="FORMAT", help="Format of the time in log lines."),
        option("--log-dir", "--logdir", metavar="DIR", help="Directory of relative log files."),
        option("--log-file", "--logfile", metavar="PATH", help="Log to this file instead of "
        "standard error."),
        option("--syslog-log-facility", metavar="FACILITY", help="Syslog facility."),
        option("--use-journal/--nouse-journal", default=None, help="Log to the journal."),
        option("--use-json/--nouse-json", default=None, help="Log in JSON."),
        option("--use-syslog/--nouse-syslog", default=None, help="Log to syslog."),
        option("--watch-log-file/--nowatch-log-file", default=None, help="Reopen a log file that "
        "was moved."),
        option("--debug/--nodebug", "-d", default=None, help="Log more, and show the traceback of "
        "an error."),
        option("--post-mortem/--nopost-mortem", default=None, help="Start the debugger on an "
        "error."),
        Option(["--version"], new=new, is_flag=True, expose_value=False, callback=_show_version,
               hidden=new, help="Print the version and exit."),
    ]  # fmt: skip
