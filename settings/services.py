"""The sections ``[placement]`` and ``[neutron]``: what keystoneauth1 has, with Nova's defaults."""

from typing import Final

from keystoneauth1 import loading
from oslo_config import cfg

from settings.section import Section

SERVICE_TYPES: Final = {"placement": "placement", "neutron": "network"}
RETRIES: Final = 2  # where the configuration sets none


def register_service(conf: cfg.ConfigOpts, name: str) -> None:
    """Make the options of a section known, as Nova does.

    The options of a login are those of its kind: keystoneauth1 makes them known where it loads it.
    """
    _own_options(name).register(conf)
    loading.register_auth_conf_options(conf, name)  # auth_section may name another section


def service_section(name: str) -> Section:
    """The section with all options that it has whatever the kind of login is."""
    options = [*loading.get_auth_common_conf_options(), *_own_options(name).options]
    return Section(name, options, in_nova_conf=True)


def _own_options(name: str) -> Section:
    """Session and adapter, without a choice of API version."""
    adapter_options = loading.get_adapter_conf_options(include_deprecated=False)
    cfg.set_defaults(adapter_options, valid_interfaces=["internal", "public"], service_type=SERVICE_TYPES[name])
    retries = cfg.IntOpt("http_retries", default=RETRIES + (name == "neutron"), min=0, help="Nova's, of [neutron].")
    return Section(name, [*loading.get_session_conf_options(), *adapter_options, retries], in_nova_conf=True)
