#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Finds the commit that broke a requirement, or the first on which a finding of `fuzz` or `learn --compare` shows:
#   git bisect start BAD GOOD && git bisect run bisect.sh REQUIREMENT|FINDING LIBRARY BUILD-COMMAND...
# 125 tells git to leave out a commit that does not build, on which the suite itself had trouble, or on which
# something other than the finding shows. Declared deviations count too if it is a finding.
set -u
tool=${SPICE_CONFORM:-spice-conform} what=$1 library=$2
shift 2
"$@" || exit 125
out=$(mktemp -d) && trap 'rm -rf "$out"' EXIT
if [ -e "$what" ]; then
    $tool replay "$what" --server "lib:$library" --deviations /dev/null --out "$out/run"
else
    $tool certify --server "lib:$library" --requirement "$what" --out "$out/run"
fi
status=$?
other='the finding does not show on this build|another difference than'
case $status in
0 | 4) exit 0 ;;
1) grep -Eq "$other" "$out/run/events.ndjson" && exit 125 || exit 1 ;;
*) exit 125 ;;
esac
