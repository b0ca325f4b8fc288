"""The recipe: every setting of an experiment, as frozen dataclasses of plain values.

Recipes are YAML files (see `training/`). This module only names fields and defaults and checks them; it
imports neither torch nor NumPy, so that `reprkit --help` is quick.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from reprkit import plugins
from reprkit.errors import InputError
from reprkit.files import json_digest, slug

DATASETS = (
    "digits", "rooms", "utkface", "table", "imagefolder", "nyuv2", "cityscapes", "pascal_context", "camvid",
)  # fmt: skip
ENCODERS = ("convnet", "resnet18", "resnet50", "mobilenet_v2", "swin_t", "swin_s", "swin_b")
_GRAMIAN = ("level", "update_every", "weight_heads")
METHODS: dict[str, tuple[str, ...]] = {
    "single": (),
    "vanilla": (),
    "uncertainty": ("lr",),
    "dwa": ("temperature",),
    "imtl_l": ("lr",),
    "gradnorm": ("lr", "alpha"),
    "auto_lambda": ("meta_fraction", "meta_lr", "lagged"),
    "pcgrad": _GRAMIAN,
    "cagrad": (*_GRAMIAN, "c"),
    "imtl": _GRAMIAN,
    "nash_mtl": _GRAMIAN,
    "mgda": (*_GRAMIAN, "normalise"),
    "graddrop": ("level", "leak"),
}
"""Methods by name, and the fields of `balancing` that each one reads."""

ADDITIONS = ("dgr", "sam", "pta")
"""What `+` adds to a method, in the order in which it is written."""

PROBES = ("ncm", "lda", "knn", "linear", "svm_linear", "svm_rbf", "tree", "tree_pca", "tree_rotated", "mlp")
"""Probes from simple to complex."""

PROBE_GROUPS = {"svm": ("svm_linear", "svm_rbf"), "trees": ("tree", "tree_pca", "tree_rotated")}
"""Names that stand for several probes."""


@dataclass(frozen=True)
class DataConfig:
    """Where images and targets come from.

    Attributes:
        name: data set: digits, rooms, utkface, table, imagefolder, nyuv2, cityscapes, pascal_context,
            camvid, or one that an installed package adds.
        root: folder, tar or CSV of the data; digits and rooms need none. `--data` overrides it.
        image_size: pixels that images are resized to: one side (square), or [height, width]; ignored by digits.
        tasks: names of the tasks to learn; empty means the data set's default tasks.
        kinds: table only: column name -> classification | ordinal | regression, overriding what is inferred.
        image_column: table only: the column that holds image paths.
        subset: utkface only: keep rows whose manifest `subset` equals this; empty keeps all.
        count: rooms only: training scenes (a sixth and a third as many more for val and test); 0 means 1,200.
        augment: random transforms of training images, together with what is labelled pixel by pixel: none | flip |
            crop_flip | scale_crop_flip (scales 1, 1.2, 1.5) | scale_rotate_flip (scales .75 to 1.25, 20 degrees).
        crop: [height, width] of random crops of training images; empty trains on whole images.
    """

    name: str = "digits"
    root: str | None = None
    image_size: int | tuple[int, int] = 64
    tasks: tuple[str, ...] = ()
    kinds: dict[str, str] = field(default_factory=dict)
    image_column: str = "image"
    subset: str = ""
    count: int = 0
    augment: Literal["none", "flip", "crop_flip", "scale_crop_flip", "scale_rotate_flip"] = "none"
    crop: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check("data.image_size", self.image_size, min(self.size) >= 8, "at least 8")
        _check("data.count", self.count, self.count == 0 or self.count >= 6, "0 (the default) or at least 6")
        crop = not self.crop or (len(self.crop) == 2 and min(self.crop) >= 8)
        _check("data.crop", list(self.crop), crop, "[height, width] of at least 8 each, or empty")
        _check("data.tasks", list(self.tasks), len(set(self.tasks)) == len(self.tasks), "without repeats")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of `image_size`."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size


@dataclass(frozen=True)
class ModelConfig:
    """The encoder, how tasks share it, and their heads.

    Attributes:
        encoder: convnet | resnet18 | resnet50 | mobilenet_v2 | swin_t | swin_s | swin_b, or one that an installed
            package adds; where tasks are labelled pixel by pixel it gives a feature map (ResNets: dilated, at an eighth
            of the image's size) instead of a vector.
        head_hidden: hidden units of each two-layer head of a vector task; 0 makes heads linear.
        weights: local torchvision (.pth) or reprkit (.safetensors) file to start the encoder from.
        structure: split (heads on one shared representation) | mtan (each task attends to the shared feature maps).
        head_channels: channels of each DeepLabV3 (ASPP) head of a dense task.
        head_rates: dilations of its 3x3 branches, in cells of the feature map.
    """

    encoder: str = "convnet"
    head_hidden: int = 64
    weights: str | None = None
    structure: Literal["split", "mtan"] = "split"
    head_channels: int = 256
    head_rates: tuple[int, ...] = (12, 24, 36)

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS and self.encoder not in plugins.names("encoders"):
            raise InputError(f"model.encoder: '{self.encoder}' is unknown; {plugins.choices('encoders', ENCODERS)}")
        _check("model.head_hidden", self.head_hidden, self.head_hidden >= 0, "0 (linear heads) or more")
        _check("model.head_channels", self.head_channels, self.head_channels >= 1, "at least 1")
        rates = bool(self.head_rates) and min(self.head_rates) >= 1
        _check("model.head_rates", list(self.head_rates), rates, "one or more dilations of at least 1")


@dataclass(frozen=True)
class DGRConfig:
    """Dummy Gradient norm Regularization, used by methods that end in `+dgr`.

    Attributes:
        weight: the paper's lambda: factor of the penalty in the loss.
        num_dummies: dummy heads per task.
        power: 1 for the norm (the paper's wording), 2 for its square (the paper's code).
        activation: hidden activation of the dummies: same (as the heads), relu, gelu, tanh; linear drops the
            hidden layer.
        estimator: exact, or finite_difference (the paper's Algorithm 1; unreliable for ReLU dummies).
        step: step length of the finite difference.
        control: none, or random_direction: a random gradient of the same norm instead of the penalty's.
    """

    weight: float = 0.1
    num_dummies: int = 3
    power: Literal[1, 2] = 1
    activation: Literal["same", "relu", "gelu", "tanh", "linear"] = "same"
    estimator: Literal["exact", "finite_difference"] = "exact"
    step: float = 1e-3
    control: Literal["none", "random_direction"] = "none"

    def __post_init__(self) -> None:
        _check("dgr.weight", self.weight, self.weight >= 0, "0 or more")
        _check("dgr.num_dummies", self.num_dummies, self.num_dummies >= 1, "at least 1")
        _check("dgr.step", self.step, self.step > 0, "positive")


@dataclass(frozen=True)
class BalancingConfig:
    """How the losses of several tasks are balanced; each method reads the fields that `METHODS` names for it.

    Attributes:
        level: Gramian methods and graddrop: balance the gradients of the shared parameters, or those of the
            representation (one encoder backward instead of one a task; another method, not an approximation).
        update_every: Gramian methods: steps between new weights.
        weight_heads: Gramian methods: multiply the gradients of each task's head by its weight too.
        lr: uncertainty, imtl_l, gradnorm: learning rate of the learnt weights, which have no weight decay.
        temperature: dwa: of its softmax; larger is closer to equal weights.
        alpha: gradnorm: how strongly slower tasks are pulled up.
        c: cagrad: radius of the search around the mean gradient, as a share of its norm; in [0, 1).
        normalise: mgda: none | l2 | loss | loss+ (loss times norm): what gradients are divided by first.
        leak: graddrop: share of the gradient that passes where its sign is dropped.
        meta_fraction: auto_lambda: share of the training images held out to judge the weights.
        meta_lr: auto_lambda: Adam's learning rate of the weights.
        lagged: auto_lambda: let the update itself be the virtual step; cheaper, weights one step older.
    """

    level: Literal["parameters", "representation"] = "parameters"
    update_every: int = 1
    weight_heads: bool = False
    lr: float = 0.025
    temperature: float = 2.0
    alpha: float = 1.5
    c: float = 0.4
    normalise: Literal["none", "l2", "loss", "loss+"] = "none"
    leak: float = 0.0
    meta_fraction: float = 0.1
    meta_lr: float = 1e-3
    lagged: bool = False

    def __post_init__(self) -> None:
        _check(
            "balancing.level",
            self.level,
            self.level in ("parameters", "representation"),
            "parameters or representation",
        )
        _check("balancing.update_every", self.update_every, self.update_every >= 1, "at least 1")
        _check("balancing.lr", self.lr, self.lr > 0, "positive")
        _check("balancing.temperature", self.temperature, self.temperature > 0, "positive")
        _check("balancing.alpha", self.alpha, self.alpha >= 0, "0 or more")
        _check("balancing.c", self.c, 0 <= self.c < 1, "from 0 up to, but not, 1")
        _check("balancing.leak", self.leak, 0 <= self.leak <= 1, "from 0 to 1")
        _check("balancing.meta_fraction", self.meta_fraction, 0 < self.meta_fraction < 1, "between 0 and 1")
        _check("balancing.meta_lr", self.meta_lr, self.meta_lr > 0, "positive")


@dataclass(frozen=True)
class SAMConfig:
    """Sharpness-Aware Minimisation, used by methods with `+sam`.

    Attributes:
        rho: length of the step towards higher loss at which the gradient is taken.
    """

    rho: float = 0.05

    def __post_init__(self) -> None:
        _check("sam.rho", self.rho, self.rho > 0, "positive")


@dataclass(frozen=True)
class PTAConfig:
    """Pseudo-task augmentation, used by methods with `+pta`: extra decoders share each task's loss.

    Attributes:
        decoders: extra decoders a task; the loss of a task is the mean over its head and these.
        frozen: False trains them (PTA-I, independent starts); True keeps them random (PTA-F).
    """

    decoders: int = 3
    frozen: bool = False

    def __post_init__(self) -> None:
        _check("pta.decoders", self.decoders, self.decoders >= 1, "at least 1")


@dataclass(frozen=True)
class TrainConfig:
    """How encoders are trained.

    Attributes:
        epochs: passes over the training split.
        batch_size: images a step and process; an incomplete last batch is dropped.
        optimizer: adam | adamw | sgd (momentum 0.9).
        lr: learning rate.
        weight_decay: L2 (adam, sgd) or decoupled (adamw) decay.
        schedule: constant | cosine (to zero) | poly (to zero, nearly straight) | step (a tenth after each third) of
            the rate, step by step.
        precision: float32 | bf16 (autocast and channels_last; the penalty stays float32).
        device: auto (cuda, then mps, then cpu) or a torch device name.
        save_every: seconds between resumable states inside an epoch; one is always written at each epoch's end.
        tensorboard: write the metrics for TensorBoard too (needs the extra `tensorboard`).
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "poly", "step"] = "constant"
    precision: Literal["float32", "bf16"] = "float32"
    device: str = "auto"
    save_every: float = 60.0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        _check("train.epochs", self.epochs, self.epochs >= 1, "at least 1")
        _check("train.batch_size", self.batch_size, self.batch_size >= 2, "at least 2 (BatchNorm needs two images)")
        _check("train.lr", self.lr, self.lr > 0, "positive")
        _check("train.weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")
        _check("train.save_every", self.save_every, self.save_every > 0, "positive")


@dataclass(frozen=True)
class EmbedConfig:
    """How frozen embeddings are dumped.

    Attributes:
        checkpoint: last or best (by the validation score, averaged over tasks).
        batch_size: images a forward pass.
        dtype: float32 | float16 on disk.
        precision: float32 | bf16 forward pass.
        positions: pixels of each image whose representation is written, where tasks are labelled pixel by pixel.
    """

    checkpoint: Literal["last", "best"] = "best"
    batch_size: int = 256
    dtype: Literal["float32", "float16"] = "float32"
    precision: Literal["float32", "bf16"] = "float32"
    positions: int = 32

    def __post_init__(self) -> None:
        _check("embed.batch_size", self.batch_size, self.batch_size >= 1, "at least 1")
        _check("embed.positions", self.positions, self.positions >= 1, "at least 1")


@dataclass(frozen=True)
class ProbeConfig:
    """Which probes judge the embeddings, and how many resamples make their intervals.

    Attributes:
        probes: any of ncm, lda, knn, linear, svm_linear, svm_rbf, tree, tree_pca, tree_rotated, mlp; svm stands for
            both SVMs, trees for the tree on all three bases. ncm and lda are for classes only. Installed packages may
            add others.
        bootstrap: resamples of the test samples for 95% intervals.
        max_svm: training rows for the exact RBF SVM; above it its Nystroem approximation is fitted, and said so.
        memory_mb: MiB of embeddings up to which a file is held in memory; a larger one is streamed from disk.
        few_shot_draws: nested draws of the few-shot curves of a run; 0 leaves the curves out.
    """

    probes: tuple[str, ...] = PROBES
    bootstrap: int = 1000
    max_svm: int = 10000
    memory_mb: int = 1024
    few_shot_draws: int = 10

    def __post_init__(self) -> None:
        names = dict.fromkeys((*PROBES, *PROBE_GROUPS, *plugins.names("probes")))
        _check("probe.probes", list(self.probes), set(self.probes) <= set(names), f"some of {', '.join(names)}")
        _check("probe.bootstrap", self.bootstrap, self.bootstrap >= 2, "at least 2")
        _check("probe.max_svm", self.max_svm, self.max_svm >= 100, "at least 100")
        _check("probe.memory_mb", self.memory_mb, self.memory_mb >= 0, "0 or more")
        _check("probe.few_shot_draws", self.few_shot_draws, self.few_shot_draws >= 0, "0 or more")


@dataclass(frozen=True)
class UniversalityConfig:
    """How universality is measured.

    Attributes:
        num_dummies: fresh random predictors a task.
        heads: linear, mlp or both: the architecture of the predictors.
        bootstrap: two-way resamples (dummies and samples) for 95% intervals.
        init: gaussian (N(0, 1/D), rotation-invariant) or paper (PyTorch's default).
        seed: seed of the predictors, apart from those seen in training.
        groups: separator such as "#", before which a sample's id names the group (image) it was taken from: intervals
            then resample groups; empty resamples samples.
    """

    num_dummies: int = 64
    heads: tuple[str, ...] = ("linear",)
    bootstrap: int = 400
    init: Literal["gaussian", "paper"] = "gaussian"
    seed: int = 20240916
    groups: str = ""

    def __post_init__(self) -> None:
        heads = bool(self.heads) and set(self.heads) <= {"linear", "mlp"}
        _check("universality.heads", list(self.heads), heads, "linear, mlp or both")
        _check("universality.num_dummies", self.num_dummies, self.num_dummies >= 2, "at least 2")
        _check("universality.bootstrap", self.bootstrap, self.bootstrap >= 2, "at least 2")
        _check("universality.seed", self.seed, 0 <= self.seed < 2**32, "from 0 to 2^32 - 1")


@dataclass(frozen=True)
class TsneConfig:
    """How t-SNE maps are drawn.

    Attributes:
        samples: test samples on a map, the same for every encoder (stratified by the first task).
        perplexity: effective number of neighbours.
        iterations: optimisation steps after the early exaggeration.
    """

    samples: int = 1000
    perplexity: float = 30.0
    iterations: int = 500

    def __post_init__(self) -> None:
        _check("tsne.samples", self.samples, self.samples >= 10, "at least 10")
        _check("tsne.perplexity", self.perplexity, self.perplexity > 1, "above 1")
        _check("tsne.iterations", self.iterations, self.iterations >= 1, "at least 1")


@dataclass(frozen=True)
class Recipe:
    """An experiment: methods x seeds on one data set, and how they are measured.

    Attributes:
        name: title of the run folder and the report.
        methods: names of `METHODS`, each alone or with any of +dgr, +sam, +pta, such as `pcgrad+dgr`.
        seeds: training seeds; the splits do not depend on them.
        data, model, dgr, balancing, sam, pta, train, embed, probe, universality, tsne: settings by stage.
        grid: dotted field of model, dgr, balancing, sam, pta or train (or data.augment) -> values to try, such as
            `dgr.weight: [0.01, 0.1]`; the value with the best validation score, averaged over seeds, is kept for
            each method; a field only concerns the methods that read it. `method` stands for `methods`: all are kept.
    """

    name: str = "digits"
    methods: tuple[str, ...] = ("single", "vanilla", "vanilla+dgr")
    seeds: tuple[int, ...] = (0,)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    dgr: DGRConfig = field(default_factory=DGRConfig)
    balancing: BalancingConfig = field(default_factory=BalancingConfig)
    sam: SAMConfig = field(default_factory=SAMConfig)
    pta: PTAConfig = field(default_factory=PTAConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    universality: UniversalityConfig = field(default_factory=UniversalityConfig)
    tsne: TsneConfig = field(default_factory=TsneConfig)
    grid: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "method" in self.grid:
            _check("grid: method", self.grid["method"], isinstance(self.grid["method"], list), "a list of values")
            object.__setattr__(self, "methods", tuple(self.grid["method"]))
            object.__setattr__(self, "grid", {name: v for name, v in self.grid.items() if name != "method"})
        for method in self.methods:
            split_method(method)
        if not self.methods or not self.seeds:
            raise InputError("a recipe needs at least one method and one seed")
        _check("methods", list(self.methods), len(set(self.methods)) == len(self.methods), "without repeats")
        _check("seeds", list(self.seeds), len(set(self.seeds)) == len(self.seeds), "without repeats")
        _check("seeds", list(self.seeds), all(0 <= seed < 2**32 for seed in self.seeds), "from 0 to 2^32 - 1")
        for name, values in self.grid.items():
            _check(f"grid: {name}", values, isinstance(values, list) and len(values) > 0, "a list of values")
            section = name.partition(".")[0]
            if section not in ("data", "model", "train", "balancing", *ADDITIONS) or (
                section == "data" and name != "data.augment"
            ):
                raise InputError(
                    f"grid: '{name}' cannot vary inside one run; use model.*, train.*, balancing.*, dgr.*, sam.*, "
                    "pta.* or data.augment"
                )
            if not any(reads(method, name) for method in self.methods):
                raise InputError(f"grid: no method of {', '.join(self.methods)} reads '{name}'")

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON types (tuples become lists)."""
        return _plain(asdict(self))


def run_folder(root: Path, method: str, seed: int, *, task: str = "", point: str = "") -> Path:
    """Where an encoder lives below the folder of a run: `runs/<method>[/<grid point>]/seed<k>[/<task>]`."""
    parts = [slug(method), *([slug(point)] if point else []), f"seed{seed}", *([slug(task)] if task else [])]
    return root.joinpath("runs", *parts)


def split_method(method: str) -> tuple[str, tuple[str, ...]]:
    """`"pcgrad+dgr"` -> `("pcgrad", ("dgr",))`.

    Raises:
        InputError: unknown method or addition, naming those that exist.
    """
    base, *additions = method.split("+")
    if base not in METHODS and base not in _EXTERNAL and base not in plugins.names("methods"):
        own = (*METHODS, *sorted(_EXTERNAL))
        raise InputError(
            f"method '{method}' is not known; {plugins.choices('methods', own)}, each alone or with +dgr, +sam, +pta"
        )
    ordered = tuple(name for name in ADDITIONS if name in additions)
    unknown = [name for name in additions if name not in ADDITIONS]
    if unknown:
        raise InputError(f"method '{method}': '+{unknown[0]}' is not known; use +dgr, +sam, +pta")
    if list(ordered) != additions:
        raise InputError(f"method '{method}': write it '{'+'.join([base, *ordered])}'")
    return base, ordered


def reads(method: str, name: str) -> bool:
    """Whether a method's training depends on a dotted recipe field, such as `balancing.c`."""
    base, additions = split_method(method)
    section, _, option = name.partition(".")
    if section in ADDITIONS:
        return section in additions
    if section == "balancing":
        return option in METHODS.get(base, _GRAMIAN)
    return section in ("data", "model", "train")


def check_level(recipe: Recipe, methods: tuple[str, ...]) -> None:
    """Refuse a level that none of `methods` has.

    Raises:
        InputError: naming the methods that have one.
    """
    if recipe.balancing.level == "representation" and not any(reads(method, "balancing.level") for method in methods):
        having = ", ".join(name for name, options in METHODS.items() if "level" in options)
        raise InputError(f"balancing.level: {', '.join(methods)} has no level; these have: {having}")


def add_method_name(name: str) -> None:
    """Let recipes name a method that is not reprkit's own; `reprkit.training.balancing.register` calls this.

    Raises:
        InputError: a name of reprkit's own, or one that could not stand in a method.
    """
    _check("method name", name, name not in METHODS, "other than reprkit's own")
    _check("method name", name, bool(name) and name.replace("_", "").isalnum(), "letters, digits and _")
    _EXTERNAL.add(name)


_EXTERNAL: set[str] = set()


def config_digest(config: Any) -> str:
    """First 16 hex digits of the SHA-256 of a config dataclass or JSON value."""
    return json_digest(_plain(asdict(config) if hasattr(config, "__dataclass_fields__") else config))[:16]


def _check(name: str, value: Any, sound: bool, wanted: str) -> None:
    if not sound:
        raise InputError(f"{name}: {value} should be {wanted}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
