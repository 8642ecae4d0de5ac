#!/bin/sh
# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
#
# Runs `make test` of the last commit on a new machine: a Debian 12 by debootstrap, in systemd-nspawn,
# with two busy loops in the background. Then it prints the exit code, the time and the number of
# skipped tests. It needs root, debootstrap and systemd-container.
#
#   sh tests/fresh.sh              as root, with only git and make
#   sh tests/fresh.sh --user       as an ordinary user, with Python
#   sh tests/fresh.sh -- COMMAND   another command in the clone, for example `make quick`
#
# The machine is in $MAAS_VIRTUALBOX_FRESH (default: ~/.cache/maas-virtualbox/fresh) and is removed
# at the end. It has its own files, processes and users. It uses the network of this machine, and its
# settings for proxies, certificates and package indexes.
set -eu
user=root
packages='git make'
while [ $# -gt 0 ]; do
    case $1 in
        --user) user=tester packages="$packages python3 python3-venv" ;;
        --) shift && break ;;
        *) echo "usage: sh tests/fresh.sh [--user] [-- COMMAND...]" >&2 && exit 2 ;;
    esac
    shift
done
[ $# -gt 0 ] || set -- make test

folder=${MAAS_VIRTUALBOX_FRESH:-$HOME/.cache/maas-virtualbox/fresh}/$$
root=$folder/root
log=$folder.log
mkdir -p "$folder"
pids=
cgroups=
# shellcheck disable=SC2329  # the trap calls it
clean_up() {
    # shellcheck disable=SC2086  # a list
    [ -z "$pids" ] || kill $pids
    rm -rf --one-file-system "$folder"
    for cgroup in $cgroups; do
        find "$cgroup" -depth -type d -exec rmdir {} +
    done
}
trap clean_up EXIT
trap 'exit 130' INT TERM

echo "Creating a Debian 12 in $root"
debootstrap bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$log"
# The package sources of this machine. They are never committed.
for settings in $(grep -ls '^ *Acquire' /etc/apt/apt.conf /etc/apt/apt.conf.d/*) /etc/pip.conf \
    /usr/local/share/ca-certificates; do
    [ ! -e "$settings" ] || cp -r --parents "$settings" "$root"
done
# Recordings of real systems beside the project, with which tests compare their fakes.
shared=$(cd .. && pwd)/shared
recordings=
[ ! -e "$shared" ] || recordings="--bind-ro $shared:/srv/shared"
names='.*_proxy|.*_PROXY|PIP_.*|UV_.*|GOPROXY|GOSUMDB|GONOSUMDB|SSL_CERT_FILE|REQUESTS_CA_BUNDLE'
environment=$(env | sed -nE "s/^($names|NODE_EXTRA_CA_CERTS)=.*/--setenv=\\1/p")
git clone --quiet --bare . "$root/srv/maas-virtualbox.git"
cat >"$root/srv/run" <<'RUN'
#!/bin/sh
# Runs the commands that a person would type. $1: user; $2: packages; the rest: the command.
set -eu
user=$1 packages=$2
shift 2
apt-get update -qq
# shellcheck disable=SC2086  # names of packages
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates \
    $packages >/dev/null 2>&1
[ "$user" = root ] || useradd --create-home --shell /bin/bash "$user"
home=$(getent passwd "$user" | cut -d : -f 6)
ln -s /srv/shared "$home/shared"
code=0
setpriv --reuid "$user" --regid "$user" --init-groups env HOME="$home" sh -c '
    cd && git clone --quiet /srv/maas-virtualbox.git && cd maas-virtualbox && exec "$@"
' sh "$@" || code=$?
left=$(find /tmp /var/tmp -mindepth 1)
[ -z "$left" ] || echo "Left behind: $left"
exit "$code"
RUN

for _ in 1 2; do
    sh -c 'while :; do :; done' &
    pids="$pids $!"
done
for hierarchy in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    if [ -e "$hierarchy/cgroup.procs" ]; then
        cgroups="$cgroups $hierarchy/fresh-$$"
        mkdir "$hierarchy/fresh-$$"
    fi
done
began=$(date +%s)
code=0
# systemd-nspawn gives the machine its own cgroups. The tests boot machines in that machine, and need
# all privileges of root.
# shellcheck disable=SC2016,SC2086  # for the inner shell; a list of options
SYSTEMD_SECCOMP=0 SYSTEMD_NSPAWN_API_VFS_WRITABLE=1 SYSTEMD_NSPAWN_TMPFS_TMP=0 \
    sh -c 'for cgroup in $0; do echo $$ >"$cgroup/cgroup.procs"; done; exec systemd-nspawn "$@"' \
    "$cgroups" --quiet --directory "$root" --machine "fresh-$$" --register=no --keep-unit \
    --as-pid2 --console pipe --capability all --resolv-conf copy-host --timezone off --link-journal no \
    $environment $recordings sh /srv/run "$user" "$packages" "$@" >"$log" 2>&1 </dev/null || code=$?
skipped=$(sed -nE 's/^SKIPPED \[([0-9]+)\].*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
grep -E '^(SKIPPED|FAILED|ERROR|Left behind)|=+ .*(passed|failed|skipped).* =+' "$log" || true
echo "exit code $code, $skipped skipped, $((($(date +%s) - began) / 60)) minutes; the complete output is in $log"
exit "$code"
