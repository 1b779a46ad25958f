#!/usr/bin/env bash
# 04_mapreduce_video_preds.py on the cores of one node, from the root of the repository:
#     qsub -hold_jid JOB_BEFORE jobs/gridengine/04_mapreduce_video_preds.sh [OPTION OF THE SCRIPT...]
#$ -N verdicts
#$ -S /bin/bash
#$ -cwd
#$ -V
#$ -j y
#$ -r y
#$ -pe smp 4
#$ -l h_rt=02:00:00

bash jobs/run.sh 04_mapreduce_video_preds.py --spark-master "local[$NSLOTS]" "$@" && exit 0
exit 100 # Grid Engine starts waiting jobs after any other status; after 100 they wait until qmod -cj has run this one again
