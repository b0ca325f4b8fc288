#!/usr/bin/env python3
"""Table 1 of the paper, with intervals: test accuracy of every method on every task, and the multi-task gain.

Beside it, dgr_gain: what DGR changes in the gain of each method, paired over seeds.

Example: python analysis/table1.py --runs runs/digits --out tables
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from reprkit.analysis.reporting.scripts import run_script, script_parser


def main(arguments: list[str] | None = None) -> int:
    """Write table1 (and dgr_gain) as CSV, Markdown and LaTeX; returns the exit code."""
    parser = script_parser(__doc__)
    parser.add_argument("--baseline", default="single", help="encoder that the gain is measured against")
    return run_script(parser, write, arguments)


def write(options: Namespace) -> list[Path]:
    """The paths of what is written."""
    from reprkit.analysis.reporting.method_table import write_table1

    return write_table1(options.runs, options.out, baseline=options.baseline)


if __name__ == "__main__":
    sys.exit(main())
