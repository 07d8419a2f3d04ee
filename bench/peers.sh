#!/bin/sh
# Unpacks Debian sid's drgn and crash, and the kernel's debug info, into a folder, for the cases that compare with them:
#
#   bun run lab fetch --kernel sid          # makes apt's private state in the lab's cache
#   bench/peers.sh DIR                      # 1.2 GB to fetch, about 0.5 GB to keep
#   KTSTR_PEERS=DIR bun run bench peer      # as root: they run in a chroot
#
# Nothing is installed. The debug info is of the newest kernel of Debian sid, which the lab's row sid boots.
set -eu
dir=${1:?usage: bench/peers.sh DIR}
lab=${KTSTR_LAB_DIR:-$HOME/.cache/ktstr-lab}
export APT_CONFIG="$lab/apt/sid-amd64/apt.conf" LC_ALL=C
[ -e "$APT_CONFIG" ] || { echo "$APT_CONFIG is not there: bun run lab fetch --kernel sid" >&2; exit 1; }

mkdir -p "$dir/fetched" "$dir/debug" "$dir/dev" "$dir/tmp" "$dir/var/tmp"
cd "$dir"
packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
	--no-enhances python3-drgn crash | grep '^[a-z0-9]' | sort -u | grep -v debconf)
(cd fetched && apt-get -q download $packages)
for each in fetched/*.deb; do dpkg-deb -x "$each" .; done
for each in bin lib lib64; do [ -e "$each" ] || ln -s "usr/$each" "$each"; done
[ -e dev/null ] || mknod -m 666 dev/null c 1 3

version=$(apt-cache depends linux-image-amd64-dbg | sed -n 's/^ *Depends: \(.*-dbg\)$/\1/p')
(cd fetched && apt-get -q download "$version")
dpkg-deb --fsys-tarfile fetched/"$version"_*.deb |
	tar -x -O --wildcards './usr/lib/debug/lib/modules/*/vmlinux' >debug/vmlinux
rm -r fetched
