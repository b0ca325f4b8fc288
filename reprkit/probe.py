"""`python -m reprkit.probe CHECKPOINT_OR_EMBEDDINGS`: how good are these frozen representations?"""

from __future__ import annotations

import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from reprkit.embeddings import sources
from reprkit.embeddings.dispatch import split_name
from reprkit.errors import InputError
from reprkit.exits import OneLineParser, exit_code
from reprkit.plugins import names
from reprkit.recipe import PROBE_GROUPS, PROBES

if TYPE_CHECKING:
    import pandas as pd


_CHECKPOINTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    others = names("probes")
    groups = ", ".join(f"{name} means {' '.join(members)}" for name, members in PROBE_GROUPS.items())
    parser = OneLineParser(
        prog="python -m reprkit.probe",
        description="Fit simple predictors (probes) on frozen embeddings and score them on the test split with 95%\n"
        "intervals. Hyperparameters are chosen on the validation split only. docs/results.md explains the table.",
        epilog="A checkpoint (.safetensors) or run folder is embedded first. Sources of any kinds and tasks make\n"
        f"one table.\n\n{sources()}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("sources", nargs="+", metavar="CHECKPOINT_OR_EMBEDDINGS")
    parser.add_argument("--data", help="root of the data set, for a checkpoint whose data has moved")
    parser.add_argument("--probes", nargs="+", default=list(PROBES),
                        help=f"any of {' '.join((*PROBES, *others))}; {groups} (default: "
                        + ("all of reprkit's own)" if others else "all)"))  # fmt: skip
    parser.add_argument("--tasks", nargs="+", help="default: the tasks the encoder was trained for; a source that has "
                        "only some of them is probed on those")  # fmt: skip
    parser.add_argument("--groups", metavar="SEP", help="what precedes the last SEP of an id names the group of its "
                        "row; intervals resample whole groups (default: what the file says)")  # fmt: skip
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples for intervals (default: %(default)s)")
    parser.add_argument("--few_shot", type=int, default=0, metavar="DRAWS",
                        help="nested draws of 1 to 64 labels a class, for learning curves (default: none)")  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes that share files, tasks and probes (default: 1)"
    )
    parser.add_argument("--out", help="CSV to write as well; beside it <name>_sensitivity.csv, <name>_few_shot.csv "
                        "and the folder <name>_predictions")  # fmt: skip
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    return exit_code(lambda: _probe(args))


def _probe(args: Namespace) -> None:
    import pandas as pd

    from reprkit.analysis.few_shot import few_shot
    from reprkit.analysis.probes.protocol import expand_probes
    from reprkit.analysis.probes.spread import own_tasks, probe_many
    from reprkit.analysis.sensitivity import sensitivity
    from reprkit.embeddings import Embeddings, distinct_labels
    from reprkit.embeddings.verification import split_notes
    from reprkit.files import check_out_file, slug, write_frame
    from reprkit.recipe import ProbeConfig

    config = ProbeConfig(probes=tuple(args.probes), bootstrap=args.bootstrap, few_shot_draws=args.few_shot)
    if args.out:
        check_out_file(args.out)
    curves, spreads = [], []
    with ExitStack() as stack:
        paths = [embeddings_of(Path(source), args.data) for source in args.sources]
        files = [stack.enter_context(Embeddings(path, groups=args.groups)) for path in paths]
        labels = distinct_labels(files)
        results = probe_many(paths, tasks=args.tasks, config=config, labels=labels, jobs=args.jobs, groups=args.groups)
        for file, label, result in zip(files, labels, results, strict=True):
            if len(expand_probes(config.probes)) > 1:
                spreads.append(sensitivity(result.predictions, tasks=file.tasks, label=label, seed=file.seed))
            if args.few_shot:
                tasks = own_tasks(file, files, args.tasks)
                curves.append(few_shot(file, tasks=tasks, draws=args.few_shot, label=label))
    frame = pd.concat([result.frame for result in results], ignore_index=True)
    if args.out:
        out = Path(args.out)
        for file, label, result in zip(files, labels, results, strict=True):
            for task, predictions in result.predictions.items():
                home = out.with_name(f"{out.stem}_predictions")
                write_frame(predictions, home / f"{slug(label)}_seed{file.seed}__{slug(task)}.csv")
        for name, frames in (("sensitivity", spreads), ("few_shot", curves)):
            if frames:
                write_frame(pd.concat(frames, ignore_index=True), out.with_name(f"{out.stem}_{name}.csv"))
        write_frame(frame, out)
    print(table(frame), *split_notes(files), sep="\n")
    for name, frames in (("sensitivity to the classifier", spreads), ("few-shot curves", curves)):
        if frames:
            print(f"\n{name}:\n{_summary(pd.concat(frames, ignore_index=True))}")


def _summary(frame: pd.DataFrame) -> str:
    """Sensitivities with their intervals, or a line a curve, as text."""
    from reprkit.analysis.few_shot_summary import summarise_few_shot

    if "shots" not in frame:
        shown = ["encoder", "seed", "task", "value", "low", "high", "best", "worst", "status"]
        return frame[shown].to_string(index=False, float_format="%.3f")
    summary = summarise_few_shot(frame)
    shown = ["encoder", "seed", "task", "probe", "metric", "area", "full", "labels", "status"]
    return summary.loc[summary["metric"] == "accuracy", shown].to_string(index=False, float_format="%.3f")


def embeddings_of(source: Path, data: str | None = None) -> Path:
    """The embeddings file that `source` means; a checkpoint or run folder is embedded first.

    A run folder's own `embeddings.h5` is used as it is, unless other data is named; a bare checkpoint is embedded
    beside itself.

    Raises:
        InputError: no such file, or none that can be embedded.
    """
    if source.is_dir():
        if data is None and (source / "embeddings.h5").is_file():
            return source / "embeddings.h5"
        from reprkit.training import embed

        return embed(source, data=data)
    if not split_name(source)[0].is_file():
        raise InputError(f"{source}: no such file; give a checkpoint, a run folder or an embeddings file")
    if source.suffix in _CHECKPOINTS:
        from reprkit.training import embed

        return embed(source, source.with_suffix(".embeddings.h5"), data=data)
    return source


def table(frame: pd.DataFrame) -> str:
    """Headline scores of a probe table as text: one row per encoder and task, one column per probe."""
    head = frame[frame.metric.isin(["accuracy", "r2"])].copy()
    if head.empty:
        return frame.to_string(index=False)
    head["score"] = [f"{v:.3f} [{a:.3f}, {b:.3f}]" for v, a, b in zip(head.value, head.low, head.high, strict=True)]
    order = list(dict.fromkeys(head.probe))
    wide = head.pivot_table(index=["encoder", "seed", "task", "metric"], columns="probe", values="score",
                            aggfunc="first", sort=False)  # fmt: skip
    text = wide[order].reset_index().to_string(index=False)
    odd = frame[(frame.status != "ok")].drop_duplicates(["encoder", "seed", "task", "probe"])
    notes = [f"note: {r.encoder} {r.task} {r.probe}: {r.status}" for r in odd.itertuples()]
    return "\n".join([text, *notes])


if __name__ == "__main__":
    sys.exit(main())
