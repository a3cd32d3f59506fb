"""oslo's configuration, with errors that name the option and its section but repeat no value."""

from typing import Any, Final

from oslo_config import cfg, types

from settings.errors import InvalidSetting

UNKNOWN_REFERENCE: Final = (
    "$ begins the name of another option, and no option has the name that follows; write $$ for a "
    "dollar sign"
)
LARGEST: Final = 2**31 - 1
"""No option takes more: not all that Python takes for a number is one to Redis, or to a clock."""


class Configuration(cfg.ConfigOpts):
    """The options, wherever oslo.config finds them.

    oslo.config's own errors repeat a value that cannot be used, and what follows a ``$``. Either
    may be a part of a password.
    """

    def _get(self, name: str, group: Any = None, namespace: Any = None) -> Any:
        """
        :raises InvalidSetting: the value cannot be used
        :raises cfg.NoSuchOptError: the option is not registered
        """
        section = getattr(group, "name", group) or "DEFAULT"
        try:
            value = super()._get(name, group, namespace)
            if isinstance(value, int | float) and not abs(value) <= LARGEST:  # nan is not, either
                kind = self._get_opt_info(name, group)["opt"].type
                raise ValueProblem(_describe_number(kind, LARGEST))
            return value
        except (cfg.NoSuchOptError, cfg.NoSuchGroupError, cfg.TemplateSubstitutionError):
            if not self._is_registered(name, group):
                raise
            reason = UNKNOWN_REFERENCE
        except RecursionError:
            reason = "it refers to itself; write $$ for a dollar sign"
        except ValueError as error:  # also the base of oslo.config's own
            problem = error.__context__ or error
            if isinstance(problem, InvalidSetting):
                # The problem is with an option to which this one refers.
                raise problem from None
            reason = _describe_valid_values(self._get_opt_info(name, group)["opt"].type, problem)
        raise InvalidSetting(f"{name} in section [{section}]: {reason}")

    def _is_registered(self, name: str, group: Any) -> bool:
        section = getattr(group, "name", group)
        if section is None:
            return name in self
        return section in self and name in self[section]

    def _validate_cli_options(self, namespace: Any) -> None:
        """Not here, where oslo would print the value and end the process, but when it is used."""


class ValueProblem(ValueError):
    """A value is not what an option takes. The text says what it takes, and repeats nothing of the
    value.
    """


def _describe_valid_values(kind: Any, problem: BaseException) -> str:
    """Which values an option of a type takes, in words.

    :param problem: the type's error for the value
    """
    if isinstance(problem, ValueProblem):
        return str(problem)
    if choices := getattr(kind, "choices", None):
        return f"it takes one of {', '.join(map(str, choices))}"
    if isinstance(kind, types.Boolean):
        return "it takes true or false"
    if isinstance(kind, types.Number):
        return _describe_number(kind)
    return "it has a value that cannot be used"


def _describe_number(kind: Any, largest: int | None = None) -> str:
    """Which numbers an option of a type takes.

    :param largest: of all options, for a type that has none of its own
    """
    words = "it takes a whole number" if isinstance(kind, types.Integer) else "it takes a number"
    if kind.min is not None:
        words += f", at least {kind.min}"
    most = largest if kind.max is None else kind.max
    if most is not None:
        words += f", at most {most}"
    return words
