#!/usr/bin/env python3
"""Learning curves: loss and headline metric of every task by epoch, on train and validation, and the DGR penalty.

Example: python analysis/learning_curves.py --runs runs/digits --out figures
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from reprkit.analysis.reporting.scripts import run_script, script_parser


def main(arguments: list[str] | None = None) -> int:
    """Write learning_curves as PDF, PNG and CSV; returns the exit code."""
    return run_script(script_parser(__doc__), write, arguments)


def write(options: Namespace) -> list[Path]:
    """The paths of what is written."""
    from reprkit.analysis.figures.write import write_learning_curves

    return write_learning_curves(options.runs, options.out)


if __name__ == "__main__":
    sys.exit(main())
