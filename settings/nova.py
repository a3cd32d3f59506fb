"""What else is read of nova.conf: options of Nova with its defaults, and one of ours in [libvirt]."""

from typing import Final

from oslo_config import cfg

from settings.section import Section

RATIO: Final = "The ratio that a compute node gets which has none."

DEFAULT: Final = Section(
    "DEFAULT",
    [
        cfg.StrOpt(
            "transport_url", default="rabbit://", secret=True,  # oslo.messaging's default
            help="The message queue that new cell mappings get, and that fills templates in those that are there.",
        ),
        cfg.StrOpt(
            "default_availability_zone", default="nova", help="The zone of hosts without an aggregate that has one."
        ),
        *(cfg.FloatOpt(f"{what}_allocation_ratio", min=0.0, help=RATIO) for what in ("cpu", "ram", "disk")),
        cfg.FloatOpt(
            "initial_cpu_allocation_ratio", min=0.0,
            help=f"{RATIO} Without it: 4.0, and 16.0 in a database from before Nova 27, as in that release.",
        ),
        *(
            cfg.FloatOpt(f"initial_{what}_allocation_ratio", default=ratio, min=0.0, help=RATIO)
            for what, ratio in (("ram", 1.0), ("disk", 1.0))
        ),
    ],
    in_nova_conf=True,
)  # fmt: skip

LIBVIRT: Final = Section(
    "libvirt",
    [
        cfg.StrOpt(
            "connection_uri", default="",
            help="The libvirt of a host, with {host} in the place of its name: qemu+tls://{host}/system.",
        ),
    ],
    in_nova_conf=True,
)  # fmt: skip
