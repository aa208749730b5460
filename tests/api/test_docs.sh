#!/usr/bin/env bash
# The program in docs/api.md is examples/generate.c, which is built and run.
set -eu
diff <(sed -n '/^```c$/,/^```$/p' "$GRAFT_SOURCE_DIR/docs/api.md" | sed '/^```/d') \
    "$GRAFT_SOURCE_DIR/examples/generate.c" || { echo "left: docs/api.md, right: examples/generate.c"; exit 1; }
echo "docs/api.md holds examples/generate.c"
