#!/usr/bin/env python3
"""What each method costs: passes through encoder and heads a step, time and memory, beside Vanilla.

Example: python analysis/cost_table.py --runs runs/digits --out tables
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from reprkit.analysis.reporting.scripts import run_script, script_parser


def main(arguments: list[str] | None = None) -> int:
    """Write cost_table as CSV, Markdown and LaTeX; returns the exit code."""
    return run_script(script_parser(__doc__), write, arguments)


def write(options: Namespace) -> list[Path]:
    """The paths of what is written."""
    from reprkit.analysis.reporting.cost import write_cost_table

    return write_cost_table(options.runs, options.out)


if __name__ == "__main__":
    sys.exit(main())
