"""The compose file by itself: valid, closed, nothing in it that would work elsewhere."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.deploy.compose import FILE, ROOT, Missing, services, variables_of

NEW_ENV: Final = ROOT / "deploy" / "compose" / "new-env"
SECRETS: Final = ("REDIS_PASSWORD", "MARIADB_PASSWORD", "MARIADB_ROOT_PASSWORD", "FLOWER_PASSWORD")
IMAGE: Final = "cellkeeper"


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    subprocess.run([NEW_ENV, tmp_path], check=True, capture_output=True)
    return tmp_path / ".env"


@pytest.fixture
def known(env_file: Path) -> dict[str, Any]:
    return services(variables_of(env_file))


def test_it_follows_the_schema_of_the_compose_specification() -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    checked = subprocess.run(
        [program, "--builtin-schema", "vendor.compose-spec", FILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_nothing_starts_without_passwords_of_ones_own(env_file: Path) -> None:
    variables = variables_of(env_file)
    for name in variables.keys() - {"COMPOSE_PROFILES"}:
        with pytest.raises(Missing, match=f"{name}: make it with deploy/compose/new-env"):
            services(variables | {name: ""})


def test_passwords_are_made_up_for_each_installation_and_kept(
    env_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    subprocess.run([NEW_ENV, tmp_path / "other"], check=True, capture_output=True)
    both = [variables_of(file) for file in (env_file, tmp_path / "other" / ".env")]
    made = [variables[name] for variables in both for name in SECRETS]
    assert len(set(made)) == 2 * len(SECRETS)
    assert all(re.fullmatch(r"[0-9a-f]{32}", secret) for secret in made)
    assert env_file.stat().st_mode & 0o777 == 0o600
    assert ".env" in (ROOT / ".gitignore").read_text().split()

    before = env_file.read_text()
    again = subprocess.run([NEW_ENV, tmp_path], check=False, capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (1, "")
    assert (
        again.stderr
        == f"{env_file} is there already, and stays as it is: the servers have its passwords\n"
    )
    assert env_file.read_text() == before


def test_no_secret_is_in_a_command_line(known: dict[str, Any], env_file: Path) -> None:
    secrets = [variables_of(env_file)[name] for name in SECRETS]
    shown = [
        str(service.get("command")) + str(service["healthcheck"]["test"])
        for service in known.values()
    ]
    assert not [secret for secret in secrets for text in shown if secret in text]


def test_only_what_is_looked_at_is_published_and_on_this_host_alone(known: dict[str, Any]) -> None:
    assert {name: service["ports"] for name, service in known.items() if "ports" in service} == {
        "flower": ["127.0.0.1:5555:5555"],
        "metrics": ["127.0.0.1:18774:18774"],
    }


def test_every_service_has_limits_a_health_check_and_comes_back(known: dict[str, Any]) -> None:
    assert set(known) == {"mariadb", "redis", "worker", "worker-cell1", "beat", "flower", "metrics"}
    for service in known.values():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
        assert service["healthcheck"]["test"]
        assert service["restart"] == "unless-stopped"


def test_what_runs_our_image_may_do_nothing_else(known: dict[str, Any]) -> None:
    for service in known.values():
        if service["image"] == IMAGE:
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert service["depends_on"]["redis"] == {"condition": "service_healthy"}


def test_the_files_that_are_mounted_are_there_and_where_they_are_looked_for(
    known: dict[str, Any],
) -> None:
    volumes = set(yaml.safe_load(FILE.read_text())["volumes"])
    mounted = [
        volume.split(":") for service in known.values() for volume in service.get("volumes", ())
    ]
    for source, target, *_ in mounted:
        assert source in volumes or (ROOT / source).is_file()
        assert source in volumes or target in (
            "/etc/nova/cellkeeper.conf",
            "/docker-entrypoint-initdb.d/databases.sh",
        )


def test_the_image_gets_every_package_of_the_program() -> None:
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    copied = {
        word
        for line in lines
        if line[:1] == ["COPY"] and "--from=build" not in line
        for word in line[1:-1]
    }
    find = re.search(r"include = \[(.*)\]", (ROOT / "pyproject.toml").read_text())
    assert find
    packages = set(re.findall(r'"(\w+)\*"', find[1]))
    assert copied == packages | {"pyproject.toml", "README.md", "LICENSE"}
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().split()
        if line.startswith("!")
    }
    assert allowed == copied
