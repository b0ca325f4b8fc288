#!/usr/bin/env python3
"""Do encoders of higher universality probe better? A mark an encoder and seed, and a rank correlation a task.

Example: python analysis/universality_vs_probe.py --runs runs/digits --out figures --score U_rel_tau --probe knn
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from reprkit.analysis.reporting.scripts import run_script, script_parser


def main(arguments: list[str] | None = None) -> int:
    """Write universality_vs_probe as PDF, PNG and CSV, and its test as CSV; returns the exit code."""
    parser = script_parser(__doc__)
    parser.add_argument("--score", default="U_rel", help="U_rel, U_rel_tau or U (default: U_rel)")
    parser.add_argument("--probe", default="linear", help="probe of probes.csv (default: linear)")
    return run_script(parser, write, arguments)


def write(options: Namespace) -> list[Path]:
    """The paths of what is written."""
    from reprkit.analysis.figures.agreement import write_agreement

    return write_agreement(options.runs, options.out, score=options.score, probe=options.probe)


if __name__ == "__main__":
    sys.exit(main())
