#!/usr/bin/env bash
# Captions by Slurm: each task of the array has shards of its own, on all GPUs of a node.
#   caption-assets shards list --dataset s3://bucket/clips | cut --fields=1 > shards.txt
#   sbatch --array=0-15 deploy/slurm.sh 16
# 16 is the number of parts that the shards are in. It stays, whichever of them an array is for: --array=5 does part 5 again.
# docs/deploy.md says more.
#SBATCH --job-name=captions
#SBATCH --nodes=1 --ntasks=1
#SBATCH --gpus-per-node=4 --cpus-per-task=48 --mem=256G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60
set -euo pipefail

parts=${1:?how many parts the shards are in, as in: sbatch --array=0-15 deploy/slurm.sh 16}
part=$((${SLURM_ARRAY_TASK_ID:?submit it with --array} % parts))
# Every so-manieth shard. A task that is requeued goes on from what is stored.
mine=$(awk -v parts="$parts" -v part="$part" 'NR % parts == part' shards.txt)
mapfile -t shards <<< "$mine"
[[ -n $mine ]] || { echo "part $part of $parts: 0 shards"; exit 0; }
echo "part $part of $parts: ${#shards[@]} shards"

# History of its own: SQLite is for one machine.
export DAGSTER_HOME=${SLURM_TMPDIR:-/tmp}/dagster-$SLURM_JOB_ID
mkdir -p "$DAGSTER_HOME"

# `exec`: Slurm's signal reaches the run, which saves what is answered and ends.
exec srun --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    caption-assets run --dataset s3://bucket/clips --output-path s3://bucket/captions \
    --generate-captions --captioning-algorithm qwen --gpus all "${shards[@]/#/--shard=}"
