"""Errors in one line for the operator."""

from oslo_config import cfg

from cli.errors import one_line


def test_a_file_that_may_not_be_read_is_for_another_user() -> None:
    line = one_line(
        cfg.ConfigFilesPermissionDeniedError(["/etc/nova/nova.conf", "/etc/nova/cellkeeper.conf"])
    )
    assert line == (
        "The configuration cannot be used: this user may not read /etc/nova/nova.conf, "
        "/etc/nova/cellkeeper.conf: "
        "run it as one who may"
    )
