"""cuBLAS without workspaces, for a process that does nothing but sample.

Where cuBLAS has a workspace, a large product hands out its tiles by a counter there, which is set
to zero before each product. Without one, tiles are dealt out beforehand: the same tiles and sums,
and 256 or 1,000 images take 2 to 6 % less time on an H200, one image up to 2 % more.
"""

import os


def do_without() -> None:
    """Ask PyTorch for none, unless the user's environment says otherwise.

    PyTorch reads this once, at a process's first product on a GPU; processes that it starts have it
    too.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    os.environ.setdefault("CUBLASLT_WORKSPACE_SIZE", "0")
