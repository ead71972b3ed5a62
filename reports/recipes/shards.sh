#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# shards.sh SPEC COUNT OUT: what COUNT jobs do, one after the other here; OUT is the whole run. In CI each job
# runs its own certify line and keeps its directory, and a last job runs the report line over all of them.
set -u
tool=${SPICE_CONFORM:-spice-conform} spec=$1 count=$2 out=$3
parts= shard=1
while [ "$shard" -le "$count" ]; do
    # shellcheck disable=SC2086
    $tool certify --server "$spec" ${OPTIONS:-} --shard "$shard/$count" --out "$out.$shard" >/dev/null
    parts="$parts $out.$shard" shard=$((shard + 1))
done
# shellcheck disable=SC2086
exec $tool report $parts --out "$out"
