#!/bin/sh
# The second container: puts a changed ConfigMap or Secret into force without a restart.
set -eu
. "${FLOWMOB_SCRIPTS:-/usr/local/lib/flowmob}/common.sh"

umask 077
trap 'exit 0' TERM INT
say "looking for changes every ${FLOWMOB_SECONDS:-5} s"
while :; do
    sleep "${FLOWMOB_SECONDS:-5}" &
    wait $!
    new=$(fingerprint)
    # No file yet: the gateway has not begun.
    [ -f "$run/applied" ] && [ "$new" != "$(cat "$run/applied")" ] || continue
    # Not there, or not yet: it will be asked again, and a start reads the files anyway.
    flowmob show status >/dev/null 2>&1 || continue
    # Once, whatever comes of it: the same files would be refused again.
    echo "$new" >"$run/applied"
    if ! render >"$run/config/new.toml"; then
        say "refused: nothing was changed"
        continue
    fi
    keys
    # Not checked here: only the gateway's container has the cores that the file names.
    mv "$run/config/new.toml" "$run/config/flowmob.toml"
    if flowmob reload >&2; then
        forget_keys
        say "in force"
    else
        say "refused: nothing was changed; what needs a restart comes with one: kubectl rollout restart"
    fi
done
