#!/usr/bin/env bash
# Install into an empty prefix, then build and run the example against it as a user would.
set -eu
command -v pkg-config >/dev/null || { echo "skipped: there is no pkg-config"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
cmake --install "$GRAFT_BUILD_DIR" --prefix "$prefix" >"$work/log" || { cat "$work/log"; exit 1; }
for file in bin/graft include/graft.h share/man/man1/graft.1 share/bash-completion/completions/graft; do
    [ -s "$prefix/$file" ] || { echo "$file was not installed"; exit 1; }
done
[ "$(find "$prefix/include" -type f | wc -l)" = 1 ] || { echo "more than one header was installed"; exit 1; }
export PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name graft.pc)")
[ "$(pkg-config --variable=prefix graft)" = "$prefix" ] || { echo "graft.pc names another prefix"; exit 1; }
version=$("$prefix/bin/graft" --version)
[ "$version" = "graft $(pkg-config --modversion graft)" ] || { echo "versions differ: $version"; exit 1; }
$GRAFT_CC -std=c11 -Wall -Wextra -Wpedantic -Werror ${GRAFT_SANITIZE:+-fsanitize=$GRAFT_SANITIZE} \
    "$GRAFT_SOURCE_DIR/examples/generate.c" $(pkg-config --cflags --libs graft) -o "$work/generate"
export LD_LIBRARY_PATH=$(pkg-config --variable=libdir graft)
"$GRAFT_TINY" "$work/tiny"
"$work/generate" "$work/tiny/base" "the cat" "$work/tiny/one" "$work/tiny/two" >"$work/said"
[ "$(grep -a -c '^  ([0-9]* tokens)' "$work/said")" = 3 ] || { cat "$work/said"; exit 1; }
if "$work/generate" "$work/none" "the cat" 2>"$work/err"; then
    echo "a missing base is no error"
    exit 1
fi
grep -q "$work/none" "$work/err" || { cat "$work/err"; exit 1; }
echo "installed, built with $(pkg-config --cflags --libs graft | sed "s|$prefix|PREFIX|g")"
