#!/bin/sh
# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
#
# Prepares this machine for the tests, then runs a command: sh tests/prepare.sh [COMMAND...]
#
# As root on Debian or Ubuntu, it installs the missing packages of the file `packages`. Otherwise it
# prints which tests will be skipped and why. If nothing is missing, COMMAND runs with
# MAAS_VIRTUALBOX_REQUIRE_REAL=1, with which a skipped test fails. If this variable is already set,
# a missing package is an error.
set -eu
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

has() {
    case $1 in
        /*) [ -e "$1" ] ;;
        python:*) /usr/bin/python3 -c "import ${1#python:}" 2>/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

# Prints the missing requirements as lines: requirement|package|tests that need it.
missing() {
    sed -e '/^#/d' -e 's/ *| */|/g' "$(dirname "$0")/packages" |
        while IFS='|' read -r requirement package tests; do
            has "$requirement" || echo "$requirement|$package|$tests"
        done
}

# Prints why the packages cannot be installed; nothing if they can.
why_not_installed() {
    if ! command -v apt-get >/dev/null; then
        echo "these packages are for Debian and Ubuntu"
    elif [ "$(id -u)" -ne 0 ]; then
        echo "installing packages needs root"
    fi
}

install_packages() {
    echo "The tests need these packages; installing them with apt-get:"
    echo "$1" | awk -F '|' '{ printf "  %-18s %s\n", $2, $3 }'
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt-get update -qq
    # shellcheck disable=SC2046  # names of packages, one per word
    apt-get install -y -qq --no-install-recommends $(echo "$1" | cut -d '|' -f 2 | sort -u) \
        >/dev/null
}

# Prints the tests that will be skipped, one line for each reason: tests|reason.
skipped() {
    missing | awk -F '|' -v why="$(why_not_installed)" \
        '{ print $3 "|" $1 " is missing (package " $2 "; " why ")" }'
    if [ "$(id -u)" -ne 0 ]; then
        echo "charm: nearly all|they need root"
        echo "virtualbox, behaviour: a real VirtualBox|it needs root"
    elif [ "$(uname -m)" != x86_64 ] || ! grep -qsEx 'ID=(debian|ubuntu)' /etc/os-release; then
        echo "virtualbox, behaviour, charm: a real VirtualBox|it needs Debian or Ubuntu on amd64"
    fi
}

# Prints the tests that are skipped because a requirement cannot be installed automatically.
not_part_of_the_project() {
    command -v terraform >/dev/null ||
        echo "charm: the module with Terraform itself|terraform is missing; no package contains it"
    [ -e "$(dirname "$0")/../../shared/maas" ] ||
        echo "unit: the fake MAAS against a recording|its recording, ../shared/maas, is missing"
}

lacking=$(missing)
if [ -n "$lacking" ] && [ -z "$(why_not_installed)" ]; then
    install_packages "$lacking"
    lacking=$(missing)
    if [ -n "$lacking" ]; then
        echo "tests/prepare.sh: still missing after apt-get install:" >&2
        echo "$lacking" >&2
        exit 1
    fi
fi
if echo "$lacking" | grep -q '|make$'; then
    echo "Nothing can run: install these packages first:" \
        "$(echo "$lacking" | grep '|make$' | cut -d '|' -f 2 | tr '\n' ' ')" >&2
    exit 1
fi
skips=$(skipped)
table=$(echo "$skips" && not_part_of_the_project)
if [ -n "$table" ]; then
    echo "These tests will be skipped here:"
    echo "$table" | awk -F '|' '$0 { printf "  %-44s %s\n", $1, $2 }'
fi
if [ -n "$skips" ]; then
    if [ -n "${MAAS_VIRTUALBOX_REQUIRE_REAL:-}" ]; then
        echo "tests/prepare.sh: MAAS_VIRTUALBOX_REQUIRE_REAL is set: nothing may be skipped" >&2
        exit 1
    fi
else
    MAAS_VIRTUALBOX_REQUIRE_REAL=1
    export MAAS_VIRTUALBOX_REQUIRE_REAL
fi
# Programs may leave files in the folder for temporary files, which is removed at the end. Its name
# is short, because UNIX sockets are below it and their paths have a limit.
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/mvt.XXXXXX")
export TMPDIR
code=0
"$@" || code=$?
if [ "$code" -eq 0 ]; then
    rm -rf "$TMPDIR"
else
    echo "The temporary files of the tests are in $TMPDIR" >&2
fi
exit "$code"
