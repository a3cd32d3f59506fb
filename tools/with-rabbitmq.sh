#!/bin/bash
# Runs a command with a RabbitMQ of its own, whose URL is in CELLKEEPER_TEST_BROKER: on free ports, in a temporary folder,
# stopped at the end.
set -euo pipefail

server=$(command -v /usr/lib/rabbitmq/bin/rabbitmq-server || true)
[ -n "$server" ] || { echo "RabbitMQ is not installed: install the package rabbitmq-server" >&2; exit 1; }

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

folder=$(mktemp -d)
port=$(free_port)
export HOME=$folder RABBITMQ_NODENAME=cellkeeper$port@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
export RABBITMQ_NODE_PORT=$port RABBITMQ_DIST_PORT ERL_EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
RABBITMQ_DIST_PORT=$(free_port)
ERL_EPMD_PORT=$(free_port)
export RABBITMQ_MNESIA_BASE=$folder/data RABBITMQ_LOG_BASE=$folder/log RABBITMQ_ENABLED_PLUGINS_FILE=$folder/plugins
export RABBITMQ_CONFIG_FILE=$folder/none
echo '[].' >"$folder/plugins"

setsid "$server" >"$folder/out" 2>&1 </dev/null &
node=$!
stop() {
    kill -- "-$node" 2>/dev/null || true
    wait "$node" 2>/dev/null || true
    ERL_EPMD_PORT=$ERL_EPMD_PORT epmd -port "$ERL_EPMD_PORT" -kill >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap stop EXIT

for _ in $(seq 600); do
    grep -q "completed with" "$folder/out" && break
    kill -0 "$node" 2>/dev/null || break
    sleep 0.1
done
grep -q "completed with" "$folder/out" || { cat "$folder/out" >&2; exit 1; }
HOME=$(getent passwd "$(id -u)" | cut -d: -f6) CELLKEEPER_TEST_BROKER=amqp://guest:guest@127.0.0.1:$port// "$@"
