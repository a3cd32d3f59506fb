"""oslo's configuration, whose errors name the option and its section, and never repeat a value."""

from typing import Any, Final

from oslo_config import cfg, types

from settings.errors import InvalidSetting

UNKNOWN_REFERENCE: Final = (
    "$ begins the name of another option, and there is none of the name that follows; write $$ for a dollar sign"
)


class Configuration(cfg.ConfigOpts):
    """The options, wherever oslo.config finds them.

    By itself it repeats a value that cannot be used, and what follows a ``$``: either may be a part of a password.
    """

    def _get(self, name: str, group: Any = None, namespace: Any = None) -> Any:
        """
        :raises InvalidSetting: the value cannot be used
        :raises cfg.NoSuchOptError: nobody has registered the option
        """
        section = getattr(group, "name", group) or "DEFAULT"
        try:
            return super()._get(name, group, namespace)
        except (cfg.NoSuchOptError, cfg.NoSuchGroupError, cfg.TemplateSubstitutionError):
            if not self._is_registered(name, group):
                raise
            reason = UNKNOWN_REFERENCE
        except RecursionError:
            reason = "it refers to itself; write $$ for a dollar sign"
        except ValueError as error:  # oslo.config's own are some, too
            problem = error.__context__ or error
            if isinstance(problem, InvalidSetting):  # of an option that this one refers to
                raise problem from None
            reason = _what_is_taken(self._get_opt_info(name, group)["opt"].type, problem)
        raise InvalidSetting(f"{name} in section [{section}]: {reason}")

    def _is_registered(self, name: str, group: Any) -> bool:
        section = getattr(group, "name", group)
        if section is None:
            return name in self
        return section in self and name in self[section]

    def _validate_cli_options(self, namespace: Any) -> None:
        """Leave it to whoever uses an option: oslo would print its value, and end the process."""


class ValueProblem(ValueError):
    """A value is not what an option takes. The text says what it takes, and repeats nothing of the value."""


def _what_is_taken(kind: Any, problem: BaseException) -> str:
    """What an option of a type takes, in words.

    :param problem: what the type says of the value
    """
    if isinstance(problem, ValueProblem):
        return str(problem)
    if choices := getattr(kind, "choices", None):
        return f"it takes one of {', '.join(map(str, choices))}"
    if isinstance(kind, types.Boolean):
        return "it takes true or false"
    if isinstance(kind, types.Number):
        limits = [(kind.min, "at least"), (kind.max, "at most")]
        number = "a whole number" if isinstance(kind, types.Integer) else "a number"
        return ", ".join([f"it takes {number}", *(f"{words} {limit}" for limit, words in limits if limit is not None)])
    return "it has a value that cannot be used"
