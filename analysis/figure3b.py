#!/usr/bin/env python3
"""Figure 3(b) of the paper: t-SNE maps of the same test samples, with what each map keeps.

Example: python analysis/figure3b.py --runs runs/digits --out figures
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from reprkit.analysis.reporting.scripts import run_script, script_parser


def main(arguments: list[str] | None = None) -> int:
    """Write figure3b as PDF, PNG and CSV; returns the exit code."""
    parser = script_parser(__doc__)
    parser.add_argument("--seed", type=int, help="training seed of the maps (default: the lowest)")
    return run_script(parser, write, arguments)


def write(options: Namespace) -> list[Path]:
    """The paths of what is written."""
    from reprkit.analysis.figures.write import write_figure3b

    return write_figure3b(options.runs, options.out, seed=options.seed)


if __name__ == "__main__":
    sys.exit(main())
