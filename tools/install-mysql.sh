#!/bin/bash
# Puts a MySQL server into .tools/mysql, for make test-mysql: the one that is installed, or else the package of Debian's
# unstable distribution, unpacked there with the libraries that it needs. Nothing of the system is changed: its own
# MariaDB, which the package would replace, stays.
set -euo pipefail
cd "$(dirname "$0")/.."

place=$PWD/.tools/mysql
server=$place/bin/mysqld
package=mysql-server-core

main() {
    if is_mysql "$server"; then
        echo "MySQL: $("$server" --no-defaults --version)"
        return
    fi
    mkdir -p "$place/bin"
    local installed
    installed=$(PATH="$PATH:/usr/sbin:/usr/local/sbin:/usr/libexec" command -v mysqld || true)
    if is_mysql "$installed"; then
        ln -sf "$installed" "$server"
    else
        unpack_package
        write_starter
    fi
    is_mysql "$server" || fail "The server in $place does not start"
    echo "MySQL: $("$server" --no-defaults --version)"
}

# Where MariaDB is installed, mysqld is a name of its server.
is_mysql() {
    [ -x "$1" ] && "$1" --no-defaults --version 2>/dev/null | grep -qv MariaDB
}

unpack_package() {
    command -v apt-get dpkg-deb >/dev/null || fail "Install a MySQL server with this system's package manager."
    local mirror
    mirror=$(apt-get indextargets --format '$(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        sed -n '/^main /{s///p;q}')
    [ -n "$mirror" ] || fail "apt-get knows no package sources; run: apt-get update"
    rm -rf "$place/apt" "$place/root"
    mkdir -p "$place/apt/lists/partial" "$place/apt/archives/partial" "$place/root"
    # An empty list of what is installed: all libraries are fetched, down to the one of C.
    : >"$place/apt/status"
    echo "deb $mirror sid main" >"$place/apt/sources.list"
    export APT_CONFIG=$place/apt/apt.conf
    cat >"$APT_CONFIG" <<END
Dir::State "$place/apt";
Dir::State::status "$place/apt/status";
Dir::Cache "$place/apt";
Dir::Etc::sourcelist "$place/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "";
END
    echo "Fetching $package and its libraries"
    quietly apt-get update
    quietly apt-get install --download-only --yes --no-install-recommends "$package"
    local archive
    for archive in "$place"/apt/archives/*.deb; do
        dpkg-deb -x "$archive" "$place/root"
    done
    rm -rf "$place/apt" "$place/root/usr/share/doc" "$place/root/usr/share/perl" "$place/root/usr/share/man"
}

# The program with its own loader and libraries, which are newer than this system's.
write_starter() {
    local root=$place/root/usr loader libraries
    loader=$(find "$root/" -name 'ld-linux*.so.*' -not -type d | head -n 1)
    libraries=$(dirname "$(find "$root/lib" -name 'libstdc++.so.6' | head -n 1)")
    cat >"$server" <<END
#!/bin/sh
exec "$loader" --library-path "$libraries" "$root/sbin/mysqld" "\$@" \\
    --basedir="$root" --lc-messages-dir="$root/share/mysql" --plugin-dir="$root/lib/mysql/plugin"
END
    chmod +x "$server"
}

quietly() {
    local output
    output=$("$@" 2>&1 </dev/null) || fail "$output"
}

fail() {
    echo "$*" >&2
    exit 1
}

main
