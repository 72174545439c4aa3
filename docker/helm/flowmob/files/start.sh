#!/bin/sh
# The gateway's container: writes the configuration of this pod, and becomes flowmob.
set -eu
. "${FLOWMOB_SCRIPTS:-/usr/local/lib/flowmob}/common.sh"

umask 077
mkdir -p "$run/config"
values >"$run/values"
# Before the files are read: what comes meanwhile is another change.
fingerprint >"$run/applied"
render >"$run/config/flowmob.toml"
keys
forget_keys
secret "$etc/token/token" "$run/config/token"
exec flowmob run --config "$run/config/flowmob.toml"
