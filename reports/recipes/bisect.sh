#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Finds the commit that broke a requirement:
#   git bisect start BAD GOOD && git bisect run bisect.sh REQUIREMENT LIBRARY BUILD-COMMAND...
# 125 tells git to leave out a commit that does not build, or on which the suite itself had trouble.
set -u
tool=${SPICE_CONFORM:-spice-conform} requirement=$1 library=$2
shift 2
"$@" || exit 125
out=$(mktemp -d) && trap 'rm -rf "$out"' EXIT
$tool certify --server "lib:$library" --requirement "$requirement" --out "$out/run"
status=$?
case $status in 0 | 4) exit 0 ;; 1) exit 1 ;; *) exit 125 ;; esac
