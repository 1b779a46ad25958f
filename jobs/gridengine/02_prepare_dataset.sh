#!/usr/bin/env bash
# 02_prepare_dataset.py on one node, from the root of the repository:
#     qsub -hold_jid JOB_BEFORE jobs/gridengine/02_prepare_dataset.sh [OPTION OF THE SCRIPT...]
#$ -N dataset
#$ -S /bin/bash
#$ -cwd
#$ -V
#$ -j y
#$ -r y
#$ -pe smp 2
#$ -l h_rt=12:00:00

bash jobs/run.sh 02_prepare_dataset.py "$@" && exit 0
exit 100 # Grid Engine starts waiting jobs after any other status; after 100 they wait until qmod -cj has run this one again
