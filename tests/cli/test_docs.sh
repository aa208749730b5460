# docs/config.md and docs/commands.md say what the program's tables say.
# usage: test_docs.sh GRAFT
set -euo pipefail
exec "${GRAFT_SOURCE_DIR:?}/scripts/make-docs" --check "$1"
