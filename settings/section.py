"""What a section of the configuration is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from oslo_config import cfg


@dataclass(frozen=True)
class Section:
    """A section and its options.

    :ivar title: what the section is for; None: its options say so
    :ivar in_nova_conf: whether the section belongs in nova.conf, because Nova reads it, too
    """

    name: str
    options: Sequence[cfg.Opt]
    title: str | None = None
    in_nova_conf: bool = False

    @property
    def group(self) -> cfg.OptGroup:
        """The section for oslo.config. A new one each time, as groups remember overrides."""
        return cfg.OptGroup(self.name, self.title)

    def register(self, conf: cfg.ConfigOpts) -> None:
        """Register the section and its options."""
        if self.name == "DEFAULT":
            conf.register_opts(self.options)
            return
        conf.register_group(self.group)
        conf.register_opts(self.options, group=self.name)
