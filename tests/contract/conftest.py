"""Collect this folder's tests only if `import resources` finds the user's package.

`make test` runs them in a process of their own: all other tests use the resources in
`tests/project`.
"""

from pathlib import Path

import resources
from local.settings import ROOT

if Path(str(resources.__file__)).resolve().parents[1] != ROOT:
    collect_ignore_glob = ["test_*.py"]
