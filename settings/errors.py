"""What can be wrong with the configuration, in words an operator can act on."""


class SettingsProblem(Exception):
    """The configuration cannot be used.

    The text names the section and the option. It never holds a URL or a password.
    """


class NotConfigured(SettingsProblem):
    """An option is not set that the command cannot do without. The text says which one to set."""


class InvalidSetting(SettingsProblem, ValueError):
    """An option has a value that cannot be used, or a file a line. The text repeats no value.

    oslo.config takes whatever is no ValueError for an option that is not there.
    """
