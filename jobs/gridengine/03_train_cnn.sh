#!/usr/bin/env bash
# 03_train_cnn.py on all GPUs that the job gets (-l gpu=4 on the command line for four), from the root of the repository:
#     qsub -hold_jid JOB_BEFORE jobs/gridengine/03_train_cnn.sh [OPTION OF THE SCRIPT...]
#$ -N train
#$ -S /bin/bash
#$ -cwd
#$ -V
#$ -j y
#$ -r y
#$ -pe smp 8
#$ -l h_rt=24:00:00
#$ -l gpu=1

bash jobs/run.sh 03_train_cnn.py "$@" && exit 0
exit 100 # Grid Engine starts waiting jobs after any other status; after 100 they wait until qmod -cj has run this one again
