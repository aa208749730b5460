#!/usr/bin/env bash
# The help of the program, of every verb, and of the config's keys, word for word.
. "$(dirname "$0")/golden.sh"

say help
say --version
golden help
for verb in $("$graft" help | sed -n 's/^  \([a-z]*\)  .*/\1/p'); do
    say help "$verb"
    golden "help-$verb"
    if ! "$graft" "$verb" --help | diff - <("$graft" help "$verb") >/dev/null; then
        echo "graft $verb --help is not graft help $verb"
        bad=1
    fi
    "$graft" help --bash | grep -q "$verb) list=" || { echo "no completion for $verb"; bad=1; }
    "$graft" help --man | grep -q "^.SS $verb$" || { echo "no man page for $verb"; bad=1; }
done
say train --help-config
golden help-config
bash -n <("$graft" help --bash) || bad=1
exit $bad
