#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# baseline.sh LIBRARY BASELINE OUT: fails only where something is worse than in an earlier run.
# Prints what changed as Markdown. The first time, keep OUT as the next BASELINE. OPTIONS go to certify.
set -u
tool=${SPICE_CONFORM:-conformance/.venv/bin/spice-conform}
# shellcheck disable=SC2086
$tool certify --server "lib:$1" ${OPTIONS:-} --out "$3"
status=$?
[ "$status" -le 1 ] || [ "$status" = 4 ] || exit "$status"
$tool compare --markdown "$2" "$3"
