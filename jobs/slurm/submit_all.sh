#!/usr/bin/env bash
# Submit the whole pipeline to Slurm, each step when the one before it has succeeded, and print the job ids.
#     jobs/slurm/submit_all.sh [OPTION...] VIDEOS_DIR
#   --shards N        tasks of the job arrays for frames and faces (default: 16), fixed from here on
#   --data-dir DIR    data root, also for the logs (default: $DEEPFAKE_DATA_DIR, else the repository)
#   --frames-dir DIR  where frames and faces go, if VIDEOS_DIR is read-only (default: beside the videos)
#   --judge           train nothing: score and judge the videos with the weights of the data root, or --03a --weights=FILE
#   --cpu OPT, --gpu OPT    option of sbatch for the CPU steps, for 03 and 03a: --cpu --partition=short --gpu --gres=gpu:4
#   --00 OPT … --04 OPT     option of that script: --03 --epochs=40 --03 --self-blend=0.5
# Each OPT is one word, may hold spaces, and may be given more than once. sbatch itself reads SBATCH_PARTITION, SBATCH_ACCOUNT and
# SBATCH_QOS; jobs/run.sh reads VENV and CONDA_ENV.
set -eo pipefail  # not -u: bash before 4.4 takes an empty list for an unset one

shards=16
data_dir=${DEEPFAKE_DATA_DIR:-}
frames_dir=''
judge=''
videos_dir=''
cpu=() gpu=() of_00=() of_01a=() of_02=() of_03=() of_03a=() of_04=()

refuse() { echo "error: $1" >&2; exit 2; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"; }

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --judge) judge=yes; shift; continue ;;
        --*) [ $# -ge 2 ] || refuse "$1 needs a value; --help explains" ;;
        *) [ -z "$videos_dir" ] || refuse "one folder of videos, not two: $videos_dir and $1"; videos_dir=$1; shift; continue ;;
    esac
    case $1 in
        --shards) shards=$2 ;;
        --data-dir) data_dir=$2 ;;
        --frames-dir) frames_dir=$2 ;;
        --cpu) cpu+=("$2") ;;
        --gpu) gpu+=("$2") ;;
        --00) of_00+=("$2") ;;
        --01a) of_01a+=("$2") ;;
        --02) of_02+=("$2") ;;
        --03) of_03+=("$2") ;;
        --03a) of_03a+=("$2") ;;
        --04) of_04+=("$2") ;;
        *) refuse "unknown option $1; --help explains" ;;
    esac
    shift 2
done
[ -d "$videos_dir" ] || refuse "${videos_dir:-VIDEOS_DIR} is not a folder; --help explains"
[[ $shards =~ ^[1-9][0-9]*$ ]] || refuse "--shards $shards is not a number above 0"

# Tasks run in the repository, wherever this was called: from here on every path is absolute.
absolute() { if [ -n "$1" ]; then realpath -m -- "$1"; fi; }
repository=$(absolute "$(dirname "${BASH_SOURCE[0]}")/../..")
videos_dir=$(absolute "$videos_dir")
data_dir=$(absolute "${data_dir:-$repository}")
frames_dir=$(absolute "$frames_dir")
cd "$repository"
place=(--data-dir "$data_dir")
videos=(--videos-dir "$videos_dir")
[ -z "$frames_dir" ] || videos+=(--frames-dir "$frames_dir")
logs=$data_dir/logs
mkdir -p "$logs"

# submit NAME WORD... : run sbatch, print the step, the job id and the command that submits it again, and keep the id in $job
submit() {
    local step=$1
    shift
    job=$(sbatch --parsable "$@") || refuse "sbatch refused $step; the steps before it are submitted"
    job=${job%%;*}  # the name of the cluster may follow
    printf '%s\t%s\tsbatch%s\n' "$step" "$job" "$(printf ' %q' "$@")"
}
array=(--array="1-$shards" --output="$logs/%x-%A_%a.log")
single=(--output="$logs/%x-%j.log")

submit 00 "${array[@]}" "${cpu[@]}" jobs/slurm/00_convert_video_to_image.sbatch "$shards" "${place[@]}" "${videos[@]}" "${of_00[@]}"
submit 01a --dependency="afterok:$job" "${array[@]}" "${cpu[@]}" \
    jobs/slurm/01a_crop_faces_mtcnn.sbatch "$shards" "${place[@]}" "${videos[@]}" "${of_01a[@]}"
if [ -n "$judge" ]; then
    submit 03a --dependency="afterok:$job" "${single[@]}" "${gpu[@]}" \
        jobs/slurm/03a_load_model.sbatch "${place[@]}" "${videos[@]}" "${of_03a[@]}"
else
    submit 02 --dependency="afterok:$job" "${single[@]}" "${cpu[@]}" \
        jobs/slurm/02_prepare_dataset.sbatch "${place[@]}" "${videos[@]}" "${of_02[@]}"
    submit 03 --dependency="afterok:$job" "${single[@]}" "${gpu[@]}" jobs/slurm/03_train_cnn.sbatch "${place[@]}" "${of_03[@]}"
fi
submit 04 --dependency="afterok:$job" "${single[@]}" "${cpu[@]}" jobs/slurm/04_mapreduce_video_preds.sbatch "${place[@]}" "${of_04[@]}"
cat >&2 <<TEXT
Logs are in $logs. If tasks fail, submit their step again in $repository as printed, for all of them and without --dependency
(sbatch --array=3,17 ..., the same number of shards), then let the next step wait for them and for what still runs of the old job:
scontrol update JobId=NEXT Dependency=afterok:NEW,afterany:OLD
TEXT
