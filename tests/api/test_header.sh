#!/usr/bin/env bash
# graft.h alone, as C11 and as C++17, under every warning.
set -eu
flags="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -fsyntax-only -I$GRAFT_SOURCE_DIR/include"
source=$GRAFT_SOURCE_DIR/tests/api/header.c
$GRAFT_CC -std=c11 -Wstrict-prototypes $flags "$source"
if [ -z "${GRAFT_CXX:-}" ]; then
    echo "skipped: there is no C++ compiler (as C11 the header is fine)"
    exit 77
fi
$GRAFT_CXX -std=c++17 -x c++ $flags "$source"
echo "graft.h compiles alone as C11 and as C++17"
