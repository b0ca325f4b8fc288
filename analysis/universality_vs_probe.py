#!/usr/bin/env python3
"""Do encoders of higher universality probe better? A mark an encoder and seed, and a rank correlation a task.

Example: python analysis/universality_vs_probe.py --runs runs/digits --out figures --score U_rel_tau --probe knn
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reprkit.exits import exit_code
from reprkit.files import check_out_folder


def main(arguments: list[str] | None = None) -> int:
    """Write universality_vs_probe as PDF, PNG and CSV, and its test as CSV; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", required=True, action="extend", nargs="+", type=Path, metavar="OUT",
        help="folders that `reprkit run` wrote",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write the figure to")
    parser.add_argument("--score", default="U_rel", help="U_rel, U_rel_tau or U (default: U_rel)")
    parser.add_argument("--probe", default="linear", help="probe of probes.csv (default: linear)")
    options = parser.parse_args(arguments)

    def draw() -> None:
        check_out_folder(options.out)
        from reprkit.analysis.figures.agreement import write_agreement

        for path in write_agreement(options.runs, options.out, score=options.score, probe=options.probe):
            print(path)

    return exit_code(draw)


if __name__ == "__main__":
    sys.exit(main())
