#!/usr/bin/env python3
"""Table 4 of the paper, with intervals: (a) number of dummies and of tasks, (b) Swin, (c) PASCAL-Context.

Each part is written that is given its folders. In (a) each folder has DGR with one number of dummies.

Example: python analysis/table4.py --dummies runs/imagenet_1 runs/imagenet_3 --swin runs/nyuv2_swin --out tables
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from reprkit.analysis.reporting.scripts import run_script, script_parser
from reprkit.errors import InputError


def main(arguments: list[str] | None = None) -> int:
    """Write table4a, table4b and table4c as CSV, Markdown and LaTeX; returns the exit code."""
    parser = script_parser(__doc__, runs=False)
    for part, what in (("dummies", "for (a)"), ("swin", "for (b)"), ("pascal", "for (c)")):
        parser.add_argument(
            f"--{part}", action="extend", nargs="+", metavar="OUT", help=f"folders that `reprkit run` wrote, {what}"
        )
    return run_script(parser, write, arguments)


def write(options: Namespace) -> list[Path]:
    """The paths of what is written."""
    if not (options.dummies or options.swin or options.pascal):
        raise InputError("table4: give folders after --dummies, --swin or --pascal")
    from reprkit.analysis.reporting.dummies_table import write_dummies_table
    from reprkit.analysis.reporting.score_tables import write_score_table

    paths = write_dummies_table(options.dummies, options.out, "table4a") if options.dummies else []
    for folders, name in ((options.swin, "table4b"), (options.pascal, "table4c")):
        paths += write_score_table(folders, options.out, name) if folders else []
    return paths


if __name__ == "__main__":
    sys.exit(main())
