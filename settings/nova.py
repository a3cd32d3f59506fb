"""Other options in nova.conf: Nova's own with its defaults, and one of ours in [libvirt]."""

from typing import Final

from oslo_config import cfg

from settings.section import Section

RATIO_HELP: Final = "The ratio for compute nodes that have none."

DEFAULT: Final = Section(
    "DEFAULT",
    [
        cfg.StrOpt(
            "transport_url", default="rabbit://", secret=True,  # oslo.messaging's default
            help="The message queue of new cell mappings; its parts fill the templates in "
                 "existing ones.",
        ),
        cfg.StrOpt(
            "default_availability_zone", default="nova",
            help="The zone of hosts that no aggregate assigns to a zone.",
        ),
        *(
            cfg.FloatOpt(f"{resource}_allocation_ratio", min=0.0, help=RATIO_HELP)
            for resource in ("cpu", "ram", "disk")
        ),
        cfg.FloatOpt(
            "initial_cpu_allocation_ratio", min=0.0,
            help=f"{RATIO_HELP} Without it: 4.0, and 16.0 in a database from before Nova 27, as "
                 "in that release.",
        ),
        *(
            cfg.FloatOpt(
                f"initial_{resource}_allocation_ratio", default=1.0, min=0.0, help=RATIO_HELP
            )
            for resource in ("ram", "disk")
        ),
    ],
    in_nova_conf=True,
)  # fmt: skip

LIBVIRT: Final = Section(
    "libvirt",
    [
        cfg.StrOpt(
            "connection_uri", default="",
            help="The libvirt of a host, where {host} stands for its name: "
                 "qemu+tls://{host}/system.",
        ),
    ],
    in_nova_conf=True,
)  # fmt: skip
