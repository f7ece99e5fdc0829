"""Bundles are judged by ``clawverify``, which believes its trust root and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from os import PathLike
from typing import Any

from .errors import NotVerified


def verify(
    bundle: str | PathLike[str],
    trust: str | PathLike[str],
    *,
    program: str = "clawverify",
    timeout: float = 600.0,
) -> dict[str, Any]:
    """The verifier's report on a bundle that is valid; ``NotVerified`` for every other one.

    ``trust`` is the file of the trust root (``clawgate trust export``). Get it by another way than the
    bundle: a gateway that lies about one would lie about both.
    """
    found = shutil.which(program)
    if found is None:
        raise NotVerified(f"`{program}` is not on the PATH; it comes with Clawgate")
    asked = [found, "--json", f"--trust={os.fspath(trust)}", "--", os.fspath(bundle)]
    try:
        done = subprocess.run(
            asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotVerified(f"`{program}` could not be run: {error}") from error
    if done.returncode not in (0, 1, 3):
        raise NotVerified(done.stderr.decode(errors="replace").strip())
    report: dict[str, Any] = json.loads(done.stdout)
    if done.returncode != 0:
        raise NotVerified(f"the bundle is {report.get('verdict')}: run `{program}` on it to see why")
    return report
