#!/bin/bash
# Installs what the tests need of the system and do not find: the programs of MariaDB and Redis, and what the extra
# `libvirt` is compiled with; with the word `browser`, `hypervisor`, `galera` or `rabbitmq` behind it, a browser, a
# libvirtd and a QEMU, what makes a cluster of MariaDB and a proxy before it, or a RabbitMQ, as well. The tests start
# servers of their own; no service is started or changed here.
set -euo pipefail
cd "$(dirname "$0")/.."

# Servers are not always on the PATH of a plain user.
export PATH="$PATH:/usr/sbin:/usr/local/sbin:/usr/libexec:$PWD/.venv/bin"
with=${1:-}
linked_redis=.venv/bin/redis-server

main() {
    python=$(command -v .venv/bin/python || command -v "${PYTHON:-python3}") || fail "There is no ${PYTHON:-python3}"
    link_redis
    find_missing
    if [ ${#missing[@]} = 0 ]; then
        echo "Services: nothing is missing"
        return
    fi
    echo "Missing for the tests: $(joined "${missing[@]}")"
    install_packages
    link_redis
    find_missing
    if [ ${#missing[@]} != 0 ]; then
        fail "Still missing: $(joined "${missing[@]}")"
    fi
    echo "Services: all there now"
}

find_missing() {
    missing=() packages=()
    if [ "$with" = browser ]; then
        has chromium chromedriver || need "chromium with chromedriver" chromium chromium-driver
    fi
    # Its installation script calls a program that Debian packs with the client.
    has mariadbd mariadb-install-db my_print_defaults ||
        need "mariadbd with mariadb-install-db" mariadb-server-core mariadb-client-core
    # Debian's package redis-server would start a service, this one has the same program under another name.
    has redis-server || need "redis-server" redis-tools
    # What looks at the units of deploy/systemd, and what gives the services of the compose file a network of their own.
    has systemd-analyze || need "systemd-analyze" systemd
    has ip || need "ip" iproute2
    has unshare nsenter || need "unshare and nsenter" util-linux
    if ! "$python" -c "import libvirt" 2>/dev/null; then
        has gcc || need "gcc" gcc libc6-dev
        has pkg-config || need "pkg-config" pkg-config
        { has pkg-config && pkg-config --exists libvirt; } || need "the headers of libvirt" libvirt-dev
        has_python_headers || need "the headers of $("$python" --version)" "$(python_headers)"
    fi
    if [ "$with" = hypervisor ]; then
        has libvirtd || need "libvirtd" libvirt-daemon libvirt-daemon-driver-qemu
        has qemu-system-x86_64 || need "qemu-system-x86_64" qemu-system-x86
    fi
    if [ "$with" = galera ]; then
        has_galera || need "libgalera_smm.so" galera-4
        has haproxy || need "haproxy" haproxy
    fi
    if [ "$with" = rabbitmq ]; then
        { has epmd && [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]; } || need "rabbitmq-server" rabbitmq-server
    fi
}

has_galera() {
    local folder
    for folder in /usr/lib/galera /usr/lib64/galera-4 /usr/lib64/galera; do
        [ ! -e "$folder/libgalera_smm.so" ] || return 0
    done
    return 1
}

need() {
    missing+=("$1")
    packages+=("${@:2}")
}

has() {
    local name
    for name in "$@"; do
        command -v "$name" >/dev/null || return 1
    done
}

has_python_headers() {
    "$python" -c "import pathlib, sysconfig; assert pathlib.Path(sysconfig.get_path('include'), 'Python.h').exists()" \
        2>/dev/null
}

python_headers() {
    "$python" -c "import sys; print('python%d.%d-dev' % sys.version_info[:2])"
}

link_redis() {
    if ! has redis-server && has redis-check-rdb; then
        mkdir -p "$(dirname "$linked_redis")"
        ln -sf "$(command -v redis-check-rdb)" "$linked_redis"
        if "$linked_redis" --version | grep -q "^Redis server"; then
            echo "Linked $linked_redis to $(command -v redis-check-rdb)"
        else
            rm "$linked_redis"
        fi
    fi
}

install_packages() {
    local as_root=()
    has apt-get || fail "Install them with this system's package manager."
    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo -n)
        sudo -n true 2>/dev/null || fail "Install them as root: apt-get install --no-install-recommends ${packages[*]}"
    fi
    echo "Installing ${packages[*]}"
    quietly "${as_root[@]}" apt-get update
    start_no_service "${as_root[@]}"
    quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends "${packages[@]}"
}

# Debian's packages ask this program whether they may start their services; HAProxy's would.
start_no_service() {
    local policy=/usr/sbin/policy-rc.d
    [ ! -e "$policy" ] || return 0
    # shellcheck disable=SC2064 - the values of now
    trap "$* rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' | "$@" tee "$policy" >/dev/null
    "$@" chmod +x "$policy"
}

quietly() {
    local output
    output=$("$@" 2>&1 </dev/null) || fail "$output"
}

joined() {
    local text
    text=$(printf '%s, ' "$@")
    echo "${text%, }"
}

fail() {
    echo "$*" >&2
    exit 1
}

main
