#!/bin/bash
# Two machines of eight GPUs under SLURM; submit it from the project's root:
#     sbatch configs/slurm.sh flam --with configs/paper.yaml --with configs/paper_flam.yaml
# Stopped by the time limit, it goes on from its last state when it is submitted again.
#SBATCH --job-name=flam
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --output=artifacts/slurm-%j.log
set -euo pipefail

# By sed, which reads all of the list: where head has gone the pipe of a long one breaks.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
export first

# One task a machine; each finds its number in SLURM_NODEID. Since 22.05 srun does not take over the
# number of cores: without it a machine's processes would share one.
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c '.venv/bin/accelerate launch \
    --config_file configs/accelerate/two_nodes.yaml \
    --num_machines "$SLURM_NNODES" --num_processes $((8 * SLURM_NNODES)) \
    --machine_rank "$SLURM_NODEID" --main_process_ip "$first" \
    -m flamlib.training.launch "$@"' bash "$@"
