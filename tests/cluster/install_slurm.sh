#!/usr/bin/env bash
# See to it that the test machine has Slurm and munge, from the packages of Debian or Ubuntu; installs only what is missing.
# SKIP_WITHOUT_SLURM=1: where they cannot be installed, go on, and the tests that need them are skipped.
export PATH=$PATH:/usr/sbin:/sbin
have_slurm() { command -v munged && command -v slurmctld && command -v slurmd && command -v sbatch; }

have_slurm > /dev/null && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
    echo 'installing slurm-wlm and munge ...' >&2
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge; } > /dev/null
    have_slurm > /dev/null && exit 0
fi
echo 'Slurm is not installed and could not be (as root: apt-get install slurm-wlm munge)' >&2
if [ -n "${SKIP_WITHOUT_SLURM:-}" ]; then
    echo 'SKIP_WITHOUT_SLURM is set: the tests on Slurm are skipped' >&2
    exit 0
fi
echo 'SKIP_WITHOUT_SLURM=1 runs the other tests' >&2
exit 2
