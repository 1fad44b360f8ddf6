#!/usr/bin/env bash
# One run on all hosts of a Cloud TPU slice: launch/tpu_pod.sh (again after preemption).
# Edit these three lines. FOLDER is seen by every host: a Filestore or a mounted bucket.
TPU=${TPU:-my-v5p-64}
ZONE=${ZONE:-europe-west4-b}
FOLDER=${FOLDER:-/mnt/shared}

set -euo pipefail
everywhere() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker=all --command "$1"
}

# Installed once per machine; a machine that took the place of a preempted one has none.
everywhere "python3 -c 'import brainjax' 2>/dev/null || python3 -m pip install --quiet \
  'brainjax[tpu] @ file://$FOLDER/brainjax'"

# One process per host; each finds the others through the TPU's own metadata. A host that
# is lost ends the others within two minutes, so that this command ends, too.
everywhere "JAX_COMPILATION_CACHE_DIR=$FOLDER/.jax python3 -m brainjax.cli pretrain \
  --config $FOLDER/brainjax/configs/pretrain_vit_b.py --workdir $FOLDER/runs/vit_b \
  --config.data.path=$FOLDER/prepared --processes auto"
