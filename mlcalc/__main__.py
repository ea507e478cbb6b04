"""`python -m mlcalc` is the command line."""

from __future__ import annotations

from mlcalc.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
