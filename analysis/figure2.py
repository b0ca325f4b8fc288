#!/usr/bin/env python3
"""Figure 2 of the paper, with intervals: multi-task gain of Vanilla and other methods, alone and with DGR, SAM, PTA.

Example: python analysis/figure2.py --runs runs/digits --out figures --bases vanilla cagrad nash_mtl
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from reprkit.analysis.reporting.scripts import run_script, script_parser


def main(arguments: list[str] | None = None) -> int:
    """Write figure2 as PDF, PNG and CSV; returns the exit code."""
    parser = script_parser(__doc__)
    parser.add_argument(
        "--bases", nargs="+", default=(), metavar="METHOD", help="methods to show (default: all that have an addition)"
    )
    return run_script(parser, write, arguments)


def write(options: Namespace) -> list[Path]:
    """The paths of what is written."""
    from reprkit.analysis.figures.additions import write_figure2

    return write_figure2(options.runs, options.out, bases=options.bases)


if __name__ == "__main__":
    sys.exit(main())
