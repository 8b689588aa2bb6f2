#!/usr/bin/env bash
# Captions by Slurm: each task of the array has shards of its own, on all GPUs of a node.
#   caption-assets shards list --dataset s3://bucket/clips | cut --fields=1 > shards.txt
#   sbatch --array=0-15 deploy/slurm.sh
# docs/deploy.md says more.
#SBATCH --job-name=captions
#SBATCH --nodes=1 --ntasks=1
#SBATCH --gpus-per-node=4 --cpus-per-task=48 --mem=256G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60
set -euo pipefail

# Every so-manieth shard. A task that is requeued goes on from what is stored.
shards=$(awk -v n="$SLURM_ARRAY_TASK_COUNT" -v k="$SLURM_ARRAY_TASK_ID" 'NR % n == k' shards.txt)
# History of its own: SQLite is for one machine.
export DAGSTER_HOME=${SLURM_TMPDIR:-/tmp}/dagster-$SLURM_JOB_ID
mkdir -p "$DAGSTER_HOME"

# `exec`: Slurm's signal reaches the run, which saves what is answered and ends.
# shellcheck disable=SC2086
exec srun caption-assets run --dataset s3://bucket/clips --output-path s3://bucket/captions \
    --generate-captions --captioning-algorithm qwen --gpus all $(printf -- '--shard %s ' $shards)
