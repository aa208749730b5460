# Sourced by the tests of this folder: run commands, compare what they print with a golden file.
#
#   golden NAME        compare everything said so far with NAME.golden; UPDATE=1 writes it instead
#   say ARGS...        run graft and record the command, its output and its exit code
set -u
graft=$(realpath "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GRAFT_CACHE=$work/.cache
unset GRAFT_CACHE_SIZE
said=$work/said
bad=0
: >"$said"

say() {
    {
        echo "\$ graft $*"
        (cd "$work" && "$graft" "$@" 2>&1 </dev/null)
        echo "exit: $?"
        echo
    } >>"$said"
}

golden() {
    local want=$here/$1.golden
    if [ "${UPDATE:-}" = 1 ]; then
        cp "$said" "$want"
    elif ! diff -u "$want" "$said"; then
        echo "$1: not as in $want; UPDATE=1 bash $0 GRAFT writes it anew"
        bad=1
    fi
    : >"$said"
}
