"""Sections ``[placement]`` and ``[neutron]``: keystoneauth1's options with Nova's defaults."""

from typing import Final

from keystoneauth1 import loading
from oslo_config import cfg

from settings.section import Section

SERVICE_TYPES: Final = {"placement": "placement", "neutron": "network"}
RETRIES: Final = 2  # if the configuration sets none


def register_service(conf: cfg.ConfigOpts, name: str) -> None:
    """Register the options of a section, as Nova does.

    Those of the login depend on its type: keystoneauth1 registers them when it loads the login.
    """
    _own_options(name).register(conf)
    loading.register_auth_conf_options(conf, name)  # auth_section may name another section


def service_section(name: str) -> Section:
    """The section with the options that it has for any type of login."""
    options = [*loading.get_auth_common_conf_options(), *_own_options(name).options]
    return Section(name, options, in_nova_conf=True)


def _own_options(name: str) -> Section:
    """Options of session and adapter, without those that choose an API version."""
    adapter_options = loading.get_adapter_conf_options(include_deprecated=False)
    cfg.set_defaults(
        adapter_options,
        valid_interfaces=["internal", "public"],
        service_type=SERVICE_TYPES[name],
    )
    default = 3 if name == "neutron" else RETRIES
    retries = cfg.IntOpt("http_retries", default=default, min=0, help="Nova's, of [neutron].")
    options = [*loading.get_session_conf_options(), *adapter_options, retries]
    return Section(name, options, in_nova_conf=True)
