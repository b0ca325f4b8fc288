"""The command line: `reprkit COMMAND ...`, the same as `python -m reprkit COMMAND ...`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from textwrap import fill
from typing import Any

from reprkit import __version__, commands, plugins
from reprkit.exits import OneLineParser, exit_code
from reprkit.recipe import ADDITIONS, METHODS, PROBES, Recipe

_EPILOG = """\
start here:
  reprkit demo                                     five minutes on two cores, then open the report it names
  reprkit run training/digits.yaml                 a recipe: methods x seeds, resumable
  reprkit run training/utkface_small.yaml --data FOLDER
  python -m reprkit.probe runs/demo/runs/vanilla/seed0
  reprkit compare A.h5 B.h5                        which encoder is better, where, and by how much
  reprkit inspect FILE                             what is in a checkpoint, an embeddings file or a run folder

exit codes: 0 done, 1 failed, 2 wrong use or input, 130 interrupted (the same command continues)
"""


_FILES_HELP = "embeddings: .h5, .npz, .npy with a CSV, .parquet or .h5ad (see python -m reprkit.probe --help)"

_GROUPS_HELP = (
    "what comes before the last SEP of an id names the group of its row (patient7 of patient7#3): intervals resample "
    "whole groups (default: what the file says)"
)

_JOBS_HELP = "processes that share the encoders and the cores of this machine (default: 1)"

_SHARING = """\
to share the work:
  --jobs 4            several processes on one machine. Bits depend on the threads of a process, not on how many
                      processes there are: OMP_NUM_THREADS=1 makes them the same for any --jobs
  --shard 1/8         several machines, each with its part (1/8 to 8/8) and the same --out, a folder that all can
                      reach. When all have returned, the same commands again measure; the last one writes the report
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    plain, overrides = (words, []) if words[:1] == ["compare"] else split_overrides(words)  # its --seeds is its own
    try:
        if words[:1] == ["probe"]:
            parser.error("probes have a command of their own: python -m reprkit.probe CHECKPOINT_OR_EMBEDDINGS")
        arguments = parser.parse_args(plain)
        if overrides and not arguments.takes_overrides:
            parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    except SystemExit as stop:
        return int(stop.code or 0)
    arguments.overrides = overrides
    return exit_code(lambda: arguments.command(arguments))


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into plain arguments and overrides of recipe fields (`--train.epochs 3`)."""
    sections = {item.name for item in fields(Recipe) if is_dataclass(item.default_factory)}
    plain_fields = {item.name for item in fields(Recipe)} - sections
    plain: list[str] = []
    overrides: list[str] = []
    rest = iter(argv)
    for word in rest:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and (name in plain_fields or (name.partition(".")[0] in sections and "." in name)):
            overrides += [word] if "=" in word else [word, next(rest, "")]
        else:
            plain.append(word)
    return plain, overrides


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="reprkit",
        description="Train shared encoders for several tasks, with and without DGR, freeze them, and measure how "
        "good and how universal their representations are.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"reprkit {__version__}")
    probes = (*PROBES, *plugins.names("probes"))
    chosen = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, action: Callable[[argparse.Namespace], None], text: str, **more: Any) -> Any:
        sub = chosen.add_parser(
            name, help=text.split(". ")[0].replace("%", "%%"), description=fill(text, 100), allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter, **more
        )  # fmt: skip
        sub.set_defaults(command=action, takes_overrides="overrides" in more.get("epilog", ""))
        return sub

    demo = command(
        "demo",
        commands.demo,
        "The whole way on the embedded digits: train Single, Vanilla and Vanilla+DGR with 2 seeds, embed, probe, "
        "measure, report. Needs no download.",
        epilog=_recipe_help(),
    )
    demo.add_argument("--out", default="runs/demo", help="folder of the run (default: %(default)s)")
    demo.add_argument("--jobs", type=int, metavar="N", help=_JOBS_HELP)

    run = command(
        "run",
        commands.run,
        "Run a recipe: train, test, embed, probe, measure and report every method x seed. Finished pieces are "
        "skipped, so the same command continues a run that was stopped or killed.",
        epilog=f"{_SHARING}\n{_methods_help()}\n\n{_recipe_help()}",
    )
    run.add_argument("recipe", help="recipe file, such as training/digits.yaml")
    run.add_argument("--data", help="root of the data set (folder, tar or CSV), instead of the recipe's data.root")
    run.add_argument("--out", help="folder of the run (default: runs/<recipe name>)")
    run.add_argument("--jobs", type=int, metavar="N", help=_JOBS_HELP)
    run.add_argument("--shard", default="1/1", metavar="I/N", help="do the I-th of N parts (for several machines)")
    run.add_argument("--print_config", action="store_true", help="print the recipe with all its fields and stop")

    train = command(
        "train",
        commands.train,
        "Train one encoder of a recipe in one run folder. Killed and started again, it continues to the same bits.",
        epilog=f"{_methods_help()}\n\n{_recipe_help()}",
    )
    train.add_argument("recipe", nargs="?", help="recipe file; without one, the defaults (digits)")
    train.add_argument("--config", help="the same as RECIPE")
    train.add_argument("--method", help="such as vanilla+dgr (default: the recipe's only one)")
    train.add_argument("--seed", type=int, help="default: the recipe's first")
    train.add_argument("--task", default="", help="the task of a `single` encoder")
    train.add_argument("--data", help="root of the data set")
    train.add_argument("--out", help="run folder (default: runs/<recipe>/<method>/seed<seed>)")
    train.add_argument("--print_config", action="store_true", help="print the recipe with all its fields and stop")

    embed = command(
        "embed",
        commands.embed,
        "Dump the frozen embeddings of a checkpoint to HDF5. Interrupted, the same command continues.",
    )
    embed.add_argument("checkpoint", help="a .safetensors checkpoint or a run folder")
    embed.add_argument("--out", help="file to write (default: embeddings[-last][-float16][-bf16][-16].h5 beside it)")
    embed.add_argument("--data", help="root of the data set, where it has moved")
    embed.add_argument("--which", choices=["best", "last"], help="checkpoint of a run folder")
    embed.add_argument("--dtype", choices=["float32", "float16"], help="number type on disk")
    embed.add_argument("--precision", choices=["float32", "bf16"], help="of the forward pass")
    embed.add_argument("--batch_size", type=int, help="images a forward pass (these default to the recipe's)")
    embed.add_argument("--positions", type=int, help="pixels an image, of encoders whose tasks are dense")
    embed.add_argument("--device", default="auto", help="auto (cuda, mps, cpu) or a torch device")

    predict = command(
        "predict",
        commands.predict,
        "Write pictures of what a checkpoint's own heads say: images beside truth, prediction and error of every dense "
        "task, and predicted classes with their probability. The arrays are written beside them (.npz).",
    )
    predict.add_argument("checkpoint", help="a .safetensors checkpoint or a run folder")
    predict.add_argument("--data", help="root of the data set, where it has moved")
    predict.add_argument("--out", help="folder to write to (default: panels/ beside the checkpoint)")
    predict.add_argument("--split", choices=["train", "val", "test"], default="test", help="default: %(default)s")
    which = predict.add_mutually_exclusive_group()
    which.add_argument("--samples", type=int, default=8, help="images, spread over the split (default: %(default)s)")
    which.add_argument("--ids", nargs="+", help="instead: these images")
    predict.add_argument("--device", default="auto", help="auto (cuda, mps, cpu) or a torch device")

    universality = command(
        "universality",
        commands.universality,
        "Measure how universal frozen embeddings are: the gap between fresh random predictors and the optimal one, "
        "raw (the paper's U) and relative, with 95% intervals.",
    )
    universality.add_argument("embeddings", nargs="+", help=_FILES_HELP)
    universality.add_argument("--tasks", nargs="+", help="default: those the encoder was trained for")
    universality.add_argument("--heads", nargs="+", choices=["linear", "mlp"], default=["linear"])
    universality.add_argument("--num_dummies", type=int, default=64, help="random predictors (default: %(default)s)")
    universality.add_argument("--init", choices=["gaussian", "paper"], default="gaussian")
    universality.add_argument("--groups", metavar="SEP", help=_GROUPS_HELP)
    universality.add_argument("--out", help="CSV to write as well")

    compare = command(
        "compare",
        commands.compare,
        "Compare encoders on the same test samples, paired. Probes, own heads, universality, geometry and likeness, "
        "each against the baseline with 95% intervals, and what is gained on one task at the price of another.",
    )
    compare.add_argument(
        "embeddings", nargs="*", help="embeddings files, or folders of runs; the first is the baseline"
    )
    compare.add_argument(
        "--seeds", nargs="+", metavar="RUN_FOLDER",
        help="instead of files: folders of `reprkit run`; methods are compared over their training seeds",
    )  # fmt: skip
    compare.add_argument("--tasks", nargs="+", help="default: those that all encoders were trained for")
    compare.add_argument("--probes", nargs="+", help=f"any of {' '.join(probes)}; svm and trees mean all of theirs")
    compare.add_argument(
        "--parts",
        nargs="+",
        help="any of probes universality geometry similarity (default: all; with --seeds, all but geometry)",
    )
    compare.add_argument("--baseline", metavar="LABEL_OR_PATH", help="default: the first file; with --seeds, vanilla")
    compare.add_argument(
        "--view", metavar="PROBE", help="predictor of the trade-offs (default: linear); head: own heads"
    )
    compare.add_argument(
        "--different_transform", action="store_true", help="accept images that were resized or normalised differently"
    )
    compare.add_argument("--groups", metavar="SEP", help=_GROUPS_HELP)
    compare.add_argument("--out", help="folder for compare.csv, pareto.csv, compare.md and figures")

    geometry = command(
        "geometry",
        commands.geometry,
        "Measure size, rank, dimension and class structure of embeddings, and whether ordered classes lie in order. "
        "Needs no probe; what each number means: docs/results.md.",
    )
    geometry.add_argument("embeddings", nargs="+", help=_FILES_HELP)
    geometry.add_argument("--tasks", nargs="+", help="default: those the encoder was trained for")
    geometry.add_argument("--split", choices=["train", "val", "test"], default="train", help="default: %(default)s")
    geometry.add_argument("--out", help="folder for geometry.csv and ordinal.csv")

    tsne = command(
        "tsne",
        commands.tsne,
        "Draw maps of embeddings files on the same samples. t-SNE, at one perplexity or several, and linear maps "
        "beside it, each with what it keeps of the embedding.",
    )
    tsne.add_argument("embeddings", nargs="+", help=_FILES_HELP)
    tsne.add_argument("--out", default="tsne", help="folder for tsne.csv, tsne_quality.csv and figures")
    tsne.add_argument("--samples", type=int, default=1000, help="test samples on a map (default: %(default)s)")
    tsne.add_argument(
        "--perplexity",
        type=float,
        nargs="+",
        default=[30.0],
        metavar="P",
        help="one or several, as 5 30 100 (default: 30)",
    )
    tsne.add_argument(
        "--map",
        nargs="+",
        choices=["tsne", "pca", "lda"],
        default=["tsne"],
        help="default: tsne; lda is fitted on train",
    )
    tsne.add_argument(
        "--place", metavar="FILE", help="put the test samples of this file of the same encoder on the maps"
    )

    explore = command(
        "explore",
        commands.explore,
        "Write one offline page on which embeddings can be explored: maps of several encoders, linked sample by "
        "sample, with thumbnails, predictions, errors, and who moved between encoders.",
    )
    explore.add_argument("embeddings", nargs="+", help=_FILES_HELP)
    explore.add_argument("--out", default="explore.html", help="page to write (default: %(default)s)")
    explore.add_argument("--data", help="root of the data set, for thumbnails, where the run does not name it")
    explore.add_argument("--images", metavar="FOLDER", help="instead: image files called like the sample ids")
    explore.add_argument("--samples", type=int, default=2000, help="test samples on a map (default: %(default)s)")
    explore.add_argument("--perplexity", type=float, default=30.0, help="default: %(default)s")
    explore.add_argument(
        "--probe", default="linear", choices=[*probes, "none"], help="whose predictions can be seen (default: linear)"
    )

    report = command(
        "report", commands.report, "Draw the figures and write report.html again from the tables of a run."
    )
    report.add_argument("folder", help="folder of `reprkit run`")

    inspect = command(
        "inspect",
        commands.inspect,
        "Say what a file is: checkpoint, embeddings, recipe or run folder. Embeddings are read whole and verified.",
    )
    inspect.add_argument("file")

    doctor = command(
        "doctor",
        commands.doctor,
        "Check the installation, this machine and this folder, and name what is wrong and the line that mends it. "
        "Exits with 1 if anything is broken.",
    )
    doctor.add_argument(
        "paths", nargs="*", metavar="RUN_OR_RECIPE", help="folders of runs and recipes to check as well"
    )
    doctor.add_argument(
        "--mend", action="store_true", help="remove half-written files of killed processes, older than a day"
    )
    return parser


def _recipe_help() -> str:
    """The dotted overrides with their defaults, for --help."""
    lines = ["overrides of recipe fields (any of them, as --field value; lists as '[a, b]'):"]
    recipe = Recipe()
    for item in fields(recipe):
        value = getattr(recipe, item.name)
        if not is_dataclass(value):
            lines.append(f"  --{item.name} {_shown(value)}")
            continue
        lines += [f"  --{item.name}.{f.name} {_shown(getattr(value, f.name))}" for f in fields(value)]
    lines += plugins.described()
    return "\n".join([*lines, "what each field means: docs/recipes.md"])


def _methods_help() -> str:
    """The methods in three groups, for --help."""
    gramian = [name for name, options in METHODS.items() if "update_every" in options]
    full = [name for name, options in METHODS.items() if "level" in options and name not in gramian]
    losses = [name for name in METHODS if name not in (*gramian, *full)]
    groups = {
        "weights from losses": ", ".join(losses),
        "weights from the Gramian": ", ".join(gramian),
        "full Jacobian": ", ".join(full),
        "added to any, in this order": ", ".join(f"+{name}" for name in ADDITIONS),
    }
    return "\n".join(["methods, such as pcgrad+dgr:", *(f"  {title}: {names}" for title, names in groups.items())])


def _shown(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


if __name__ == "__main__":
    sys.exit(main())
