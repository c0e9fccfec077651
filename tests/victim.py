"""A process that builds or updates a tree and is killed on the way: ``python victim.py '{"data": ..., "tree": ...}'``.

``stage`` and ``after``: SIGKILL when progress reports so many jobs of that stage. ``write``: SIGKILL at the so-manyth
write of the store, before it is done or (``done``) after. ``fsize``: no file may grow beyond so many bytes.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import warnings
from typing import Any

from coretree import CoresetTree, ThreadExecutor
from coretree.errors import CoretreeError
from days import Failing, opened


def die(*_: Any) -> BaseException:
    os.kill(os.getpid(), signal.SIGKILL)
    return SystemExit("still alive")


def main(job: dict[str, Any]) -> int:
    warnings.simplefilter("ignore")
    if "fsize" in job:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["fsize"], job["fsize"]))

    def progress(stage: str, done: int, total: int) -> None:
        if stage == job.get("stage") and done == job["after"]:
            die()

    options = {"client": ThreadExecutor(job.get("threads", 2)), "progress": progress}
    tree = CoresetTree(job["tree"], size=60, fan_in=2, passes=job.get("passes", 2))
    if "write" in job:
        tree.store = Failing(tree.store, job["write"], die, done=job.get("done", False))  # type: ignore[arg-type]
    try:
        if job.get("what", "build") == "build":
            tree.build(opened(job["data"]), **options)
        else:
            tree.settings = CoresetTree.open(job["tree"]).settings
            tree.update(opened(job["data"]), **options)
    except CoretreeError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    print(tree.name_)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
