"""What Snakemake's files under ``benchmarks/`` say of jobs that a warm process runs.

Snakemake adds up the processes below a job's shell; such a job is not below it, but bears the
number of the client that is (`flowquant.runtime.server`).
"""

from __future__ import annotations


def follow(server: int) -> None:
    """Let Snakemake count the jobs that the process ``server`` runs where they belong."""
    import psutil
    from snakemake import benchmark

    class Shell(psutil.Process):  # type: ignore[misc]
        def children(self, recursive: bool = False) -> list[psutil.Process]:
            own: list[psutil.Process] = super().children(recursive)
            names = {f"job {process.pid}" for process in own}
            try:
                served = psutil.Process(server).children()
                jobs = [process for process in served if process.name() in names]
                return own + jobs + [p for job in jobs for p in job.children(recursive)]
            except psutil.NoSuchProcess:
                return own

    class Timer(benchmark.BenchmarkTimer):  # type: ignore[misc]
        def __init__(self, pid: int, *arguments: object, **named: object) -> None:
            super().__init__(pid, *arguments, **named)
            self.main = Shell(pid)

    benchmark.BenchmarkTimer = Timer
