#!/bin/sh
# A program that is restarted when its configuration changes. Its settings are in the environment: api/port is API_PORT.
#
#     config_exec.sh BASE COMMAND...
#     corekit config set --base BASE api/port=8080
set -eu
base=$1
shift
exec corekit config exec --base "$base" -- "$@"
