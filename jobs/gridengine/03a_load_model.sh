#!/usr/bin/env bash
# 03a_load_model.py on one GPU, from the root of the repository:
#     qsub -hold_jid JOB_BEFORE jobs/gridengine/03a_load_model.sh [OPTION OF THE SCRIPT...]
#$ -N score
#$ -S /bin/bash
#$ -cwd
#$ -V
#$ -j y
#$ -r y
#$ -pe smp 8
#$ -l h_rt=24:00:00
#$ -l gpu=1

bash jobs/run.sh 03a_load_model.py "$@" && exit 0
exit 100 # Grid Engine starts waiting jobs after any other status; after 100 they wait until qmod -cj has run this one again
