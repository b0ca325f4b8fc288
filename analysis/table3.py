#!/usr/bin/env python3
"""Table 3 of the paper, with intervals: Cityscapes with Split and MTAN, every metric and the multi-task gain.

Beside it, table3_dgr_gain: what DGR changes in the gain of each method, paired over seeds.

Example: python analysis/table3.py --runs runs/cityscapes_split runs/cityscapes_mtan --out tables
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from reprkit.analysis.reporting.scripts import run_script, script_parser


def main(arguments: list[str] | None = None) -> int:
    """Write table3 (and its dgr_gain) as CSV, Markdown and LaTeX; returns the exit code."""
    return run_script(script_parser(__doc__), write, arguments)


def write(options: Namespace) -> list[Path]:
    """The paths of what is written."""
    from reprkit.analysis.reporting.score_tables import write_score_table

    return write_score_table(options.runs, options.out, "table3")


if __name__ == "__main__":
    sys.exit(main())
