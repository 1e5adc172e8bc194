#!/bin/sh
# A job every few seconds, on one of many machines: start this on all of them.
#
#     cron_leader.sh PATH SECONDS COMMAND...
#
# --stay: after a lost leadership, stand for election again. COREKIT_LOCK_TOKEN is the term.
set -eu
path=$1 seconds=$2
shift 2
exec corekit elect "$path" --stay -- sh -c 'seconds=$1; shift; while :; do "$@"; sleep "$seconds"; done' sh "$seconds" "$@"
