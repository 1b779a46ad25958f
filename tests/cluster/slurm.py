"""A real Slurm on this machine, for as long as a test needs it: one node that claims 8 CPUs and a GPU (a null device)."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.cluster.daemons import START_LIMIT_S, daemon, free_port, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
GresTypes=gpu
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 Gres=gpu:1
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE
"""


def programs_path():
    """Return PATH with the folders of the daemons, which a user's PATH may lack."""
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def missing_programs():
    """Return the programs of Slurm and munge that are not installed."""
    return [name for name in PROGRAMS if not shutil.which(name, path=programs_path())]


@contextmanager
def running_slurm():
    """Start munge and Slurm, give the environment in which sbatch and its like talk to it, stop both."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: the path of a socket has 107 characters at most
    environment = {**os.environ, "PATH": programs_path(), "SLURM_CONF": str(folder / "slurm.conf")}
    ports = {"control_port": free_port(), "node_port": free_port()}
    user, host = pwd.getpwuid(os.getuid()).pw_name, socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, user=user, host=host, **ports))
    (folder / "gres.conf").write_text("NodeName=node1 Name=gpu File=/dev/null\n")
    (folder / "munge.key").touch(0o600)
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    places = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munge.seed"}
    munge = ["munged", "--foreground", "--force", *(f"--{option}={folder / name}" for option, name in places.items())]

    def ask(*command):
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout

    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(daemon(munge, folder / "munged.log", environment))
        wait_until((folder / "munge.socket").exists, START_LIMIT_S, "munged")
        for command in (["slurmctld", "-D"], ["slurmd", "-D", "-N", "node1"]):
            stack.enter_context(daemon(command, folder / f"{command[0]}.log", environment))
        wait_until(lambda: "idle" in ask("sinfo", "-h", "-o", "%T"), START_LIMIT_S, f"Slurm (its logs: {folder})")
        try:
            yield environment
        finally:
            ask("scancel", "--user", user)
            wait_until(lambda: not ask("squeue", "-h"), START_LIMIT_S, "jobs that end")
