"""Section ``[flower]``: the web page that shows workers and tasks."""

from typing import Final

from oslo_config import cfg

from settings.section import Section

OPTIONS: Final = [
    cfg.StrOpt("user", default="cellkeeper", help="The name to log in with."),
    cfg.StrOpt(
        "password", secret=True,
        help="The password to log in with. Without one, Flower does not start.",
    ),
    cfg.StrOpt(
        "address", default="127.0.0.1",
        help="The address to listen on. Without TLS the password is sent unencrypted: if other "
             "hosts may connect, set cert_file and key_file, or put a proxy with TLS in front.",
    ),
    cfg.PortOpt("port", default=5555, help="The port to listen on."),
    cfg.StrOpt(
        "url_prefix", default="",
        help="The path under which a proxy publishes it, as in /flower.",
    ),
    cfg.StrOpt("cert_file", help="The certificate to serve TLS with, in PEM."),
    cfg.StrOpt("key_file", help="The private key of cert_file."),
    cfg.BoolOpt(
        "read_only", default=True,
        help="Whether Flower is read-only. Otherwise users can also send tasks and stop workers.",
    ),
]  # fmt: skip

SECTION: Final = Section(
    "flower", OPTIONS, title="The web page that shows workers and tasks: cellkeeper flower."
)
