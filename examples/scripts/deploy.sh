#!/bin/sh
# One deployment at a time, whoever starts it and wherever; a second one is refused.
#
#     deploy.sh APPLICATION COMMAND...
#
# If this machine is cut off, the command is ended before anybody else can begin. Its own exit code comes back, or 75 if
# another deployment runs, or 70 if the lock was lost.
set -u
application=$1
shift
corekit lock acquire "/deploy/$application" --try -- "$@"
code=$?
case $code in
    75) echo "$application is being deployed by: $(corekit lock list "/deploy/$application")" >&2 ;;
    70) echo "$application: cut off in the middle; look before you deploy again" >&2 ;;
esac
exit $code
