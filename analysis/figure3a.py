#!/usr/bin/env python3
"""Figure 3(a) of the paper, with intervals: simple predictors on frozen embeddings.

Example: python analysis/figure3a.py --runs runs/digits --out figures
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from reprkit.analysis.reporting.scripts import run_script, script_parser


def main(arguments: list[str] | None = None) -> int:
    """Write figure3a as PDF, PNG and CSV; returns the exit code."""
    return run_script(script_parser(__doc__), write, arguments)


def write(options: Namespace) -> list[Path]:
    """The paths of what is written."""
    from reprkit.analysis.figures.write import write_figure3a

    return write_figure3a(options.runs, options.out)


if __name__ == "__main__":
    sys.exit(main())
