#!/bin/sh
# Installs what is missing: `scripts/deps.sh build`, `scripts/deps.sh servers`, `scripts/deps.sh bench`, or several.
#
# build    a C compiler with its linker and headers: rustup brings none, and two of our crates hold C
# servers  redis-server and postgresql, which the demo and the tests start privately
# clients  redis-py, ioredis, node-redis, and express-session with connect-redis, which the tests run against the daemon
#          (under target/ and tests/clients/), and openssl, which makes their certificates
# unit     systemd, whose programs judge the unit files, and which runs them in boxes; the machine itself need not run it
# bench    redis-benchmark and nutcracker (twemproxy), which the benches measure against; pgbench comes with postgresql
#
# Quick when nothing is missing. Packages need root; without it, says which command to run.
#
# Debian runs what it installs as services on their usual ports. They stay: a package that somebody installed by this
# script is to be no other than one installed by hand. Nothing here uses them, or their ports.

set -eu
cd "$(dirname "$0")/.."

packages=

# Asks for PACKAGES unless the command is there.
want() { # COMMAND PACKAGES
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
    build)
        # gcc alone cannot link: the libc it links against is only a recommendation.
        want cc "gcc libc6-dev"
        ;;
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
        echo "deps: \`$1\` is none of build, servers, clients, unit, bench" >&2
        exit 64
        ;;
    esac
}

install_packages() {
    [ -n "$packages" ] || return 0
    install="apt-get install -y --no-install-recommends$packages"
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "deps: missing:$packages, and there is no \`apt-get\` here: install them by other means" >&2
        exit 69
    fi
    if [ "$(id -u)" -ne 0 ]; then
        echo "deps: missing:$packages" >&2
        echo "hint: sudo apt-get update && sudo $install" >&2
        exit 69
    fi
    apt-get update
    DEBIAN_FRONTEND=noninteractive $install
    tell_services
}

tell_services() {
    services=
    for package in $packages; do
        case $package in redis-server | postgresql | nutcracker) services="$services $package" ;; esac
    done
    [ -n "$services" ] || return 0
    echo "deps: Debian also runs as services what nothing here uses:$services" >&2
    echo "hint: systemctl disable --now$services" >&2
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
