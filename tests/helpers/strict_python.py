"""How programs are run in which a warning is an error."""

from __future__ import annotations

import sys

# NumPy 2.5 warns of what ASE does with shapes: not ours to mend.
OTHERS = ["-W", "ignore:Setting the shape on a NumPy array:DeprecationWarning"]
STRICT = [sys.executable, "-W", "error", *OTHERS]
