# shellcheck shell=bash
# What the scripts have in common. To be sourced by bash with `set -euo pipefail`.

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# step NAME COMMAND...: runs the command and tells how long it took; a failure ends the script.
step() {
    local name=$1 begin=$SECONDS
    shift
    echo "==> $name"
    # Not within an `if` or `||`, where `set -e` would be off inside of the command.
    "$@"
    echo "==> $name: $((SECONDS - begin)) s"
}

# have NAME [FILE]: whether the program is in PATH or at FILE.
have() {
    command -v "$1" >/dev/null 2>&1 || [ -x "${2:-/nonexistent}" ]
}

# pg_program NAME: where PostgreSQL's program is: $PGPOOL_PG_BIN, pg_config's directory, Debian's newest, PATH.
pg_program() {
    local name=$1 dir
    if [ -n "${PGPOOL_PG_BIN:-}" ] && [ -x "$PGPOOL_PG_BIN/$name" ]; then
        echo "$PGPOOL_PG_BIN/$name"
        return
    fi
    if dir=$(pg_config --bindir 2>/dev/null) && [ -x "$dir/$name" ]; then
        echo "$dir/$name"
        return
    fi
    while read -r dir; do
        if [ -x "$dir/bin/$name" ]; then
            echo "$dir/bin/$name"
            return
        fi
    done < <(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -type d 2>/dev/null | sort -rV)
    command -v "$name"
}

# install_packages PACKAGE...: installs Debian packages, as root or by sudo; nothing to do without arguments.
install_packages() {
    [ $# -gt 0 ] || return 0
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! have sudo || ! sudo -n true 2>/dev/null; then
            die "missing: $*. Install with: sudo apt-get install $*"
        fi
        as_root=(sudo -n)
    fi
    have apt-get || die "missing: $*. There is no apt-get here: install them by hand"
    echo "installing $*"
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# as_postgres COMMAND...: becomes the command, as the user that PostgreSQL accepts (it refuses root), ended when this
# script is. In the background `$!` is then the command's own process id.
as_postgres() {
    local identity=()
    if [ "$(id -u)" -eq 0 ]; then
        # The program and its files may lie in a directory of root's.
        identity=(--reuid=postgres --regid=postgres --clear-groups
            --inh-caps=+dac_read_search --ambient-caps=+dac_read_search)
    fi
    cd /
    exec setpriv "${identity[@]}" --pdeathsig "${pdeathsig:-QUIT}" "$@"
}

# debian_mirror: the mirror of the machine's own Debian release, by its apt sources, or $DEBIAN_MIRROR; not those of its
# updates or of other projects.
debian_mirror() {
    if [ -n "${DEBIAN_MIRROR:-}" ]; then
        echo "$DEBIAN_MIRROR"
        return
    fi
    local release found
    release=$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME:-}") ||
        die "this is no Debian; name a mirror of its packages in DEBIAN_MIRROR"
    found=$(apt-get indextargets --format '$(REPO_URI)' "Release: $release" "Component: main" | sort -u | head -n 1)
    [ -n "$found" ] || die "the apt sources name no mirror of $release; name one in DEBIAN_MIRROR"
    echo "$found"
}
