#!/bin/sh
# tools/night/gpus.sh: a night of sampling on the GPUs of one machine: a process for each, which is started again until its
# part is done.
#
#   GPUS="0 1 2 3" tools/night/gpus.sh RUN OUT ids=0-49999 format=tar batch=512
#
# Without GPUS it is every GPU that nvidia-smi lists, or one process without any.  Ended by Ctrl-C or killed, the same line
# continues, also with other GPUS.  The exit code is 0 if all parts are done, else that of the last one that failed.
set -u
run=$1 out=$2
shift 2
gpus=${GPUS-$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | tr '\n' ' ')}
ranks=$(echo "$gpus" | wc -w)
[ "$ranks" -gt 0 ] || gpus=- ranks=1

# A signal or a fault that another try may not meet is tried again, a few times; what is wrong with the command is not.
part() {
    rank=$1
    shift
    for try in 1 2 3 4 5; do
        "${DDPM:-ddpm}" sample "$run" out="$out" rank="$rank" ranks="$ranks" "$@" & process=$!
        trap 'kill -TERM $process; wait $process; exit $?' INT TERM HUP
        wait $process
        code=$?
        case $code in
        0) exit 0 ;;
        2 | 65 | 66 | 73 | 85) exit $code ;; # 85: somebody stopped it
        esac
        echo "rank $rank: exit code $code, try $try of 5" >&2
        sleep "${PAUSE:-10}"
    done
    exit "$code"
}

rank=0 parts=""
for gpu in $gpus; do
    (
        [ "$gpu" = - ] || export CUDA_VISIBLE_DEVICES="$gpu"
        part $rank "$@"
    ) &
    parts="$parts $!"
    rank=$((rank + 1))
done
trap 'kill -TERM $parts 2>/dev/null' INT TERM HUP
result=0
for process in $parts; do
    while kill -0 "$process" 2>/dev/null; do wait "$process"; done
    wait "$process" || result=$?
done
exit $result
