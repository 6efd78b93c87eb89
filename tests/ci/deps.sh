#!/bin/sh
# Installs what is missing of the Debian packages of the given groups; quiet when all is there. `make deps` calls it.
#   deps.sh [-n] GROUP...     groups: build demo test check bench coverage runtime; -n only prints what is missing
# Debian 12 and 13 name some libraries differently: "a|b" means the first of them that this release knows.
# Not Debian? It prints what to install by other means and ends well, so that `make` can try.
set -eu

build='gcc make pkg-config|pkgconf libc6-dev libmicrohttpd-dev libjansson-dev libsqlite3-dev zlib1g-dev nettle-dev libcsv-dev
  libopenblas-pthread-dev libcurl4-gnutls-dev|libcurl4-openssl-dev'
demo='curl jq'
test='python3 python3-yaml python3-jsonschema curl jq git'
check='clang libclang-rt-14-dev|libclang-rt-dev valgrind git strace nginx-light|nginx haproxy python3-venv
  chromium'
bench='wrk python3 curl'
coverage='gcovr'
runtime='libmicrohttpd12t64|libmicrohttpd12 libjansson4 libsqlite3-0 zlib1g libnettle8t64|libnettle8 libcsv3 libopenblas0-pthread
  libcurl3t64-gnutls|libcurl3-gnutls'

dry_run=
if [ "${1:-}" = -n ]; then
    dry_run=1
    shift
fi
wanted=
for group in "$@"; do
    case $group in
    build | demo | test | check | bench | coverage | runtime) eval "wanted=\"\$wanted \$$group\"" ;;
    *) echo "deps.sh: unknown group $group (build demo test check bench coverage runtime)" >&2 && exit 2 ;;
    esac
done
wanted=$(printf '%s\n' $wanted | sort -u)

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "This is not Debian. annotmixd needs (Debian's names):" $wanted
    exit 0
fi

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}
missing=
for choice in $wanted; do
    found=
    for name in $(echo "$choice" | tr '|' ' '); do
        if installed "$name"; then found=1; fi
    done
    [ -n "$found" ] || missing="$missing $choice"
done
[ -n "$missing" ] || exit 0
if [ -n "$dry_run" ]; then
    echo "missing:$missing"
    exit 0
fi

sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "Please install as root:$missing" >&2 && exit 1; }
    sudo=sudo
fi
echo "installing with apt:$missing"
# A package list that is a little old is no reason to fail; a package that cannot be had is.
$sudo apt-get -qq update || echo "deps.sh: apt-get update failed, trying with the lists at hand" >&2
names=
for choice in $missing; do
    for name in $(echo "$choice" | tr '|' ' '); do
        if apt-cache show --no-all-versions "$name" >/dev/null 2>&1; then break; fi
    done
    names="$names $name"
done
$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends install $names </dev/null >/dev/null
