#!/usr/bin/env bash
# The library shows what graft.h declares, and nothing else.
set -eu
command -v nm >/dev/null || { echo "skipped: there is no nm"; exit 77; }
shown=$(nm -D --defined-only "$GRAFT_LIB" | awk '{ print $NF }' | sed 's/@.*//' | sort -u)
declared=$(grep -v '^ \*' "$GRAFT_SOURCE_DIR/include/graft.h" | tr '\n' ' ' |
    grep -oE 'GRAFT_API [^;]*;' | grep -oE '\bgraft_[a-z_]+\(' | tr -d '(' | sort -u)
[ -n "$declared" ] || { echo "no declaration found in graft.h"; exit 1; }
diff <(echo "$declared") <(echo "$shown") || { echo "left: declared, right: exported"; exit 1; }
echo "$(wc -l <<<"$declared") symbols, all of them declared"
