"""URLs for people: no secret is shown, and all else as the stock tool shows it."""

from typing import Final

import pytest

from novadb.urls import mask_url

# As recorded from nova-manage 32.2.1.
LIKE_STOCK: Final = {
    "none:///": "none:/",
    "rabbit://": "rabbit:",
    "fake:/": "fake:/",
    "sqlite:////srv/nova.db": "sqlite://srv/nova.db",
    "sqlite:///nova.db": "sqlite:/nova.db",
    "nonsense": "nonsense",
    "": "",
    "mysql+pymysql://nova:secret@db1:3306/nova?charset=utf8": "mysql+pymysql://nova:****@db1:3306/nova?charset=utf8",
    "mysql://nova:sec@ret@db1/nova#top": "mysql://nova:****@db1/nova#top",
    "mysql://nova:secret@[::1]:3306/nova": "mysql://nova:****@[::1]:3306/nova",
    "mysql://nova:@db1/nova": "mysql://nova:****@db1/nova",
    "mysql://nova@db1:3306/nova": "mysql://nova@db1:3306/nova",
    "mysql://db1:3306/nova": "mysql://db1:3306/nova",
    "rabbit://u:secret@h:1/v": "rabbit://u:****@h:1/v",
    "RABBIT://u:secret@h:1/V": "rabbit://u:****@h:1/V",
    "rabbit://h1:1,h2:2/v": "rabbit://h1:1,h2:2/v",
    "rabbit://h:1/v?mail=a@b": "rabbit://h:1/v?mail=a@b",
    "rabbit://{username}:{password}@{hostname}:{port}/{path}": "rabbit://{username}:****@{hostname}:{port}/{path}",
}
# The stock tool shows the secret, or hides more than it.
BETTER: Final = {
    "rabbit://u:secret@h:1,u2:secret2@h2:2/v": "rabbit://u:****@h:1,u2:****@h2:2/v",
    "rabbit://h:1,u2:secret2@h2:2/v": "rabbit://h:1,u2:****@h2:2/v",
    "rabbit://u:sec@ret@h:1,[::1]:2/": "rabbit://u:****@h:1,[::1]:2/",
    "rabbit://u:sec,ret@h:1/": "rabbit://u:****@h:1/",
    "rabbit://h:1/v?ssl=1&ssl_key_password=secret": "rabbit://h:1/v?ssl=1&ssl_key_password=****",
    "rabbit://u:secret@h:1/?Pass%77ord=secret&x=": "rabbit://u:****@h:1/?Pass%77ord=****&x=",
    "mysql://db1/nova?user=nova&password=secret&ssl_ca=/etc/ca": "mysql://db1/nova?user=nova&password=****&ssl_ca=/etc/ca",
    "mysql://db1/nova?auth_token=secret": "mysql://db1/nova?auth_token=****",
    "mysql://nova:sec/ret@db1/nova": "mysql://nova:****@db1/nova",
    "mysql://nova:sec#ret@db1/nova": "mysql://nova:****@db1/nova",
    "mysql://nova:sec?ret@db1/nova?passwd=secret": "mysql://nova:****@db1/nova?passwd=****",
    "mysql://nova:12/34@db1/nova": "mysql://nova:****@db1/nova",
    "mysql://nova:12,34@db1/nova": "mysql://nova:****@db1/nova",
    "mysql://nova:secret@[db1/nova": "mysql://nova:****@[db1/nova",
    "mysql://nova:sec[ret@db1/nova": "mysql://nova:****@db1/nova",
    "rabbit://h1:1,[fd00::2]:2/v": "rabbit://h1:1,[fd00::2]:2/v",
    "rabbit://u:secret@h1:1,u:ret@[fd00::2]:2/": "rabbit://u:****@h1:1,u:****@[fd00::2]:2/",
    "rabbit://u:{password}@[{hostname}]:5672/": "rabbit://u:****@[{hostname}]:5672/",
    "nova:secret@db1/nova": "nova:****@db1/nova",
}


@pytest.mark.parametrize(("url", "shown"), [*LIKE_STOCK.items(), *BETTER.items()])
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert mask_url(url, several_hosts=url.startswith("rabbit")) == shown
    assert not {"secret", "sec", "ret", "12", "34"} & set(shown.replace("@", ":").split(":"))
