#!/bin/sh
# tools/night/slurm.sh: a night of sampling as a Slurm job array: each task draws its part of one set on one GPU.
#
#   sbatch --array=0-7 tools/night/slurm.sh RUN OUT ids=0-49999 format=npz batch=512
#
# A task that is preempted or reaches its time limit gets USR1 two minutes before, writes what it has drawn, exits with
# code 85 and is queued again.  One that died is made up for by submitting the same line again, with any number of tasks:
# what is there is kept.  The last task to end completes the set.
#SBATCH --job-name=ddpm-sample
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -u
run=$1 out=$2
shift 2

"${DDPM:-ddpm}" sample "$run" out="$out" \
    rank=$(((SLURM_ARRAY_TASK_ID - ${SLURM_ARRAY_TASK_MIN:-0}) / ${SLURM_ARRAY_TASK_STEP:-1})) ranks="$SLURM_ARRAY_TASK_COUNT" "$@" &
process=$!
trap 'kill -USR1 $process' USR1
trap 'kill -TERM $process' TERM
code=143
while kill -0 $process 2>/dev/null; do # a trapped signal ends `wait` early
    wait $process
    code=$?
done
[ $code = 85 ] && exec scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
exit $code
