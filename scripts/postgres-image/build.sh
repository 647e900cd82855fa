#!/usr/bin/env bash
# Builds the file system of a PostgreSQL image out of Debian packages, for machines that cannot
# pull `postgres:17`: postgresql-17 with the entrypoint beside this file, uid and gid 999.
#
# usage: [PG_MAJOR=17] build.sh OUT.tar [CACHE]
#   PG_MAJOR 17, which Debian 13 has, or 18, which is in Debian unstable
#   OUT.tar  the tar to write; import.sh makes an image of it
#   CACHE    directory that keeps the last result, named by all that went into it
#            (default: ${XDG_CACHE_HOME:-~/.cache}/pgvol-postgres-image)
# Needs root and mmdebstrap, which it installs where apt-get can.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../lib.sh"

out=${1:?usage: build.sh OUT.tar [CACHE]}
cache=${2:-${XDG_CACHE_HOME:-$HOME/.cache}/pgvol-postgres-image}
here=$(cd "$(dirname "$0")" && pwd)
major=${PG_MAJOR:-17}
case $major in
    17) suite=trixie data=/var/lib/postgresql/data ;;
    18) suite=sid data=/var/lib/postgresql ;;
    *) die "PG_MAJOR=$major is not known: 17 or 18" ;;
esac
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
# The server brings pgbench, amcheck and pg_stat_statements; locales makes en_US.utf8.
packages=postgresql-$major,locales,tzdata,zstd,xz-utils

key=$(printf '%s\n' "$suite $packages" | cat - "$here/build.sh" "$here/entrypoint.sh" | sha256sum)
cached=$cache/$major-${key:0:16}.tar
mkdir -p "$cache"
# Two builds at once would do the same work twice: the second one waits and takes the result.
exec 9>"$cache/lock"
flock 9

if [ ! -s "$cached" ]; then
    need mmdebstrap mmdebstrap debian-archive-keyring
    [ -e "$keyring" ] || install_packages debian-archive-keyring
    # A mirror of unstable that rests is as good as any: its lists expire within a week.
    [ "$suite" != sid ] || resting=(--aptopt='Acquire::Check-Valid-Until "false"')
    say "building a $suite root with ${packages//,/ }"
    # shellcheck disable=SC2016 # $1 is the root that mmdebstrap hands to each hook
    mmdebstrap --quiet --variant=minbase --mode=root --format=tar --skip=cleanup/run --include="$packages" \
        --keyring="$keyring" ${resting[@]+"${resting[@]}"} \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --essential-hook='echo "postgres:x:999:999::/var/lib/postgresql:/bin/bash" >>"$1/etc/passwd"' \
        --essential-hook='echo "postgres:x:999:" >>"$1/etc/group"' \
        --essential-hook='echo "postgres:*:20000::::::" >>"$1/etc/shadow"' \
        --essential-hook='mkdir -p "$1/etc/postgresql-common/createcluster.d"' \
        --essential-hook='echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.d/image.conf"' \
        --customize-hook='chroot "$1" localedef -i en_US -f UTF-8 en_US.UTF-8' \
        --customize-hook='sed -i "s/^#listen_addresses = .*/listen_addresses = '"'*'"'/" "$1/usr/share/postgresql/'"$major"'/postgresql.conf.sample"' \
        --customize-hook='rm -rf "$1/var/lib/postgresql/'"$major"'" "$1/usr/share/i18n" "$1/etc/postgresql"' \
        --customize-hook='mkdir -p "$1/docker-entrypoint-initdb.d" "$1'"$data"'"' \
        --customize-hook='chroot "$1" install -d -o 999 -g 999 -m 3777 /var/run/postgresql' \
        --customize-hook='chown -R 999:999 "$1/var/lib/postgresql" && chmod 1777 "$1'"$data"'"' \
        --customize-hook="copy-in $here/entrypoint.sh /usr/local/bin" \
        --customize-hook='cd "$1/usr/local/bin" && mv entrypoint.sh docker-entrypoint.sh && chmod 0755 docker-entrypoint.sh && chown 0:0 docker-entrypoint.sh' \
        "$suite" "$cached.part" "$mirror" >&2
    find "$cache" -maxdepth 1 -name "$major-*.tar" -delete
    mv "$cached.part" "$cached"
fi
# With its time, which becomes the image's: the same tar is the same image.
cp --preserve=timestamps --reflink=auto "$cached" "$out"
