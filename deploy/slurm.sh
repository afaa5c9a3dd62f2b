#!/bin/bash
# One Ray node a Slurm node; the first one is the head and runs the job.
#   sbatch --nodes=4 --gpus-per-node=1 deploy/slurm.sh --input /data/photos --output /data/labels \
#     --model unet-nuclei
#SBATCH --job-name=maskmill
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?}"
source .venv/bin/activate
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_ENABLE_UV_RUN_RUNTIME_ENV=0

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
gpus=${SLURM_GPUS_ON_NODE:-0}
srun --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --port="$port" --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" --block &
sleep 20
others=$((SLURM_JOB_NUM_NODES - 1))
if ((others > 0)); then
  srun --nodes="$others" --ntasks="$others" --exclude="$head" \
    ray start --address="$head:$port" --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" --block &
fi

# Slurm sends TERM two minutes before the end: exit code 3, and the requeued job goes on.
python -m jobs.label --address "$head:$port" --wait "$@" &
job=$!
trap 'kill -TERM "$job"' TERM
code=0
wait "$job" || code=$?
if ((code > 128)); then
  code=0
  wait "$job" || code=$?
fi
if ((code == 3)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
