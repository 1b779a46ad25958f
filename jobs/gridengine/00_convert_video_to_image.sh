#!/usr/bin/env bash
# One shard of 00_convert_video_to_image.py per task, from the root of the repository:
#     qsub -t 1-N jobs/gridengine/00_convert_video_to_image.sh N [OPTION OF THE SCRIPT...]
# N is said twice so that a failed shard can be submitted again alone (-t 3, the same N); it redoes only what is unfinished.
#$ -N frames
#$ -S /bin/bash
#$ -cwd
#$ -V
#$ -j y
#$ -r y
#$ -pe smp 4
#$ -l h_rt=12:00:00
shards=${1:?the number of shards is missing}
bash jobs/run.sh 00_convert_video_to_image.py --shard "$SGE_TASK_ID/$shards" --workers "$NSLOTS" "${@:2}" && exit 0
exit 100 # Grid Engine starts waiting jobs after any other status; after 100 they wait until qmod -cj has run this one again
