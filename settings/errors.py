"""What can be wrong with the configuration, in words an operator can act on."""


class SettingsProblem(Exception):
    """The configuration cannot be used.

    The text names the section and the option. It never holds a URL or a password.
    """


class NotConfigured(SettingsProblem):
    """An option that the command needs is not set. The text says which one."""


class InvalidSetting(SettingsProblem, ValueError):
    """The value of an option, or a line of a file, cannot be used. The text repeats no value.

    A ValueError, because oslo.config takes any other exception for a missing option.
    """
