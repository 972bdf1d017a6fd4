"""A Slurm cluster of one node for tests, with daemons, keys and ports of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun")

# More CPUs than the machine may have (config_overrides), so that the rules' own threads fit; memory
# for three jobs of 8 GB, so that asking for it is what bounds the jobs side by side. No accounting.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
MinJobAge=3600
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=24000 Gres=gpu:2
PartitionName=gpu Nodes=ALL MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no cluster here, if so."""
    for name in PROGRAMS:
        if shutil.which(name, path=_path()) is None:
            return f"no {name}: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "starting Slurm's daemons takes root"


@dataclass
class Job:
    """What Slurm knows of a job, and what it was asked to give it."""

    number: str
    comment: str
    state: str
    memory: str
    runtime: str
    cpus: str
    gpus: str

    @property
    def rule(self) -> str:
        return self.comment.removeprefix("rule_").partition("_wildcards_")[0]


@dataclass
class Cluster:
    """A running cluster; commands reach it by ``environment``."""

    folder: Path
    environment: dict[str, str]

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        return subprocess.run(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
            timeout=30,
        ).stdout

    def wait(self, *command: str, answer: bool = True, seconds: float = 60) -> None:
        """Until a command answers something, or nothing."""
        end = time.monotonic() + seconds
        while True:
            with suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
                if bool(self.ask(*command).strip()) == answer:
                    return
            if time.monotonic() > end:
                logs = [f"{log}:\n{log.read_text()}" for log in self.folder.glob("*.log")]
                raise TimeoutError("\n".join([f"waited for {command} in vain", *logs]))
            time.sleep(0.5)

    def jobs(self) -> list[Job]:
        """All jobs there have been."""
        fields = ("JobID", "Comment", "State", "MinMemory", "TimeLimit", "NumCPUs", "tres-per-job")
        columns = ",".join(f"{name}:120" for name in fields)
        rows = self.ask("squeue", "--states=all", "--noheader", "--sort=i", "-O", columns)
        return [Job(*row.split()) for row in rows.splitlines()]


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster of one node with the partition ``gpu`` and two GPUs that are not there."""
    # Not pytest's folder: a socket's path must be short, and munge wants all folders passable.
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, ExitStack() as daemons:
        folder = Path(name)
        folder.chmod(0o711)
        environment = _configure(folder)

        def start(*command: str) -> None:
            log = daemons.enter_context((folder / f"{command[0]}.log").open("wb"))
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            daemons.callback(_end, process)

        files = ("key", "pid", "log", "seed")
        options = [f"--{kind}-file={folder}/munge.{kind}" for kind in files]
        start("munged", "--foreground", f"--socket={folder}/munge.socket", *options)
        start("slurmctld", "-D", "-i")
        start("slurmd", "-D")
        found = Cluster(folder, environment)
        found.wait("sinfo", "--noheader", "--states=idle", "--format=%n")
        try:
            yield found
        finally:
            # Processes of jobs are not the daemons' and would outlive them.
            found.ask("scancel", "--user=root", "--signal=KILL", "--full")
            found.wait("squeue", "--noheader", answer=False)


def _path() -> str:
    """Where programs are; daemons lie in folders that a user's PATH may lack."""
    return f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"


def _configure(folder: Path) -> dict[str, str]:
    """Write the cluster's files; the environment in which Slurm's commands find it."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    content = CONFIGURATION.format(
        folder=folder, host=socket.gethostname().partition(".")[0], ports=_free_ports()
    )
    (folder / "slurm.conf").write_text(content)
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-1]\n")
    for gpu in range(2):
        (folder / f"gpu{gpu}").touch()
    # Snakemake's plugin takes SLURM_CONF, as all of SLURM_*, from the srun that it calls in a job.
    srun = folder / "bin/srun"
    srun.parent.mkdir()
    real = shutil.which("srun", path=_path())
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {real} "$@"\n')
    srun.chmod(0o755)
    path = f"{srun.parent}{os.pathsep}{_path()}"
    outer = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SRUN"))}
    return outer | {"PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}


def _free_ports() -> list[int]:
    """Two ports that nobody listens on."""
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in (first, second)]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
