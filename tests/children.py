"""Processes that a test starts."""

import subprocess


class Process(subprocess.Popen[str]):
    """One that ends with a block that fails, which would wait for it for ever."""

    def __exit__(self, *error: object) -> None:
        if error != (None, None, None):
            self.kill()
        super().__exit__(*error)  # type: ignore[arg-type]
