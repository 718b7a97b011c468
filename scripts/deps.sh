#!/bin/sh
# Installs what is missing: `scripts/deps.sh servers`, `scripts/deps.sh clients`, `scripts/deps.sh bench`, or several.
#
# servers  redis-server and postgresql, which the demo and the tests start privately
# clients  redis-py, ioredis and node-redis, which the tests run against the daemon (under target/ and tests/clients/),
#          and openssl, which makes their certificates
# unit     systemd-analyze, which the tests let judge the unit file; systemd itself need not run
# bench    redis-benchmark, pgbench and nutcracker (twemproxy), which the benches measure against
#
# Quick when nothing is missing. Packages need root; without it, says which command to run.

set -eu
cd "$(dirname "$0")/.."

packages=

# Asks for PACKAGE unless the command is there.
want() { # COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || packages="$packages $2"
}

want_postgres() {
    # Debian keeps the server's programs outside PATH.
    command -v initdb >/dev/null 2>&1 && return
    for program in /usr/lib/postgresql/*/bin/initdb; do
        [ -x "$program" ] && return
    done
    packages="$packages postgresql"
}

want_packages() { # PART
    case $1 in
    servers)
        want redis-server redis-server
        want_postgres
        ;;
    clients)
        want python3 python3
        # Debian's python3 comes without the part that makes environments.
        python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3-venv"
        want node nodejs
        want npm npm
        want openssl openssl
        ;;
    unit)
        want systemd-analyze systemd
        ;;
    bench)
        want redis-benchmark redis-tools
        want nutcracker nutcracker
        ;;
    *)
        echo "deps: \`$1\` is none of servers, clients, unit, bench" >&2
        exit 64
        ;;
    esac
}

install_packages() {
    [ -n "$packages" ] || return 0
    install="apt-get install -y --no-install-recommends$packages"
    if [ "$(id -u)" -ne 0 ]; then
        echo "deps: missing:$packages" >&2
        echo "hint: sudo $install" >&2
        exit 69
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "deps: missing:$packages, and there is no \`apt-get\` here: install them by other means" >&2
        exit 69
    fi
    apt-get update
    DEBIAN_FRONTEND=noninteractive $install
}

install_clients() {
    python=target/clients/python
    # The stamp is a copy of what was installed: changed versions are installed again.
    if ! cmp -s tests/clients/requirements.txt "$python/installed.txt"; then
        python3 -m venv "$python"
        "$python/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
        cp tests/clients/requirements.txt "$python/installed.txt"
    fi
    modules=tests/clients/node_modules
    if ! cmp -s tests/clients/package.json "$modules/installed.json"; then
        # Versions are exact in package.json; a lock file would name the registry it was made with.
        npm install --prefix tests/clients --no-package-lock --no-audit --no-fund --loglevel=error
        cp tests/clients/package.json "$modules/installed.json"
    fi
}

for part in "$@"; do want_packages "$part"; done
install_packages
for part in "$@"; do
    if [ "$part" = clients ]; then install_clients; fi
done
