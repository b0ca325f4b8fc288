"""How each metric is called and printed: one place for tables, figures and sentences."""

from __future__ import annotations

METRIC_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "within_one": "Within one class",
    "quadratic_kappa": "Quadratic kappa",
    "log_loss": "Log-loss (nats)",
    "ece": "Calibration error",
    "r2": "R²",
    "mae": "MAE",
    "rmse": "RMSE",
    "miou": "Mean IoU",
    "pixel_accuracy": "Pixel accuracy",
    "abs_error": "Absolute error",
    "rel_error": "Relative error",
    "mean_angle": "Mean angle (°)",
    "median_angle": "Median angle (°)",
    "within_11.25": "Within 11.25°",
    "within_22.5": "Within 22.5°",
    "within_30": "Within 30°",
    "iou": "IoU",
    "max_f": "Best F",
    "odsf": "odsF",
}
_IN_PERCENT = frozenset(
    {"accuracy", "miou", "pixel_accuracy", "within_11.25", "within_22.5", "within_30", "iou", "max_f", "odsf"}
)
_IN_UNIT = frozenset({"mae", "rmse", "abs_error"})
_IN_DEGREES = frozenset({"mean_angle", "median_angle"})


def metric_name(metric: str) -> str:
    """Such as `Mean IoU`; an unknown metric's own name."""
    return METRIC_NAMES.get(metric, metric)


def in_sentence(metric: str) -> str:
    """The name as it stands inside a sentence: `mean IoU`, `accuracy`, but `IoU` and `R²`."""
    name = metric_name(metric)
    return name if name in ("IoU", "R²", "MAE", "RMSE", "odsF") else name[:1].lower() + name[1:]


def in_percent(metric: str) -> bool:
    """True for the shares that tables of scores give in percent, and their differences in points."""
    return metric in _IN_PERCENT or metric.endswith("_accuracy")


def in_unit(metric: str) -> bool:
    """True for the errors that are in the unit of their task."""
    return metric in _IN_UNIT


def printed_with(metric: str) -> tuple[int, int]:
    """(factor, digits) with which a score is printed: percent with one digit, degrees with two, others with three."""
    return (100, 1) if in_percent(metric) else (1, 2) if metric in _IN_DEGREES else (1, 3)


def heading(column: str, metric: str, unit: str = "") -> str:
    """The heading of a column of scores: `age (%)`, `segmentation (Mean IoU, %)`, `depth (Absolute error, m)`.

    `unit` is that of the task.
    """
    if metric == "accuracy":
        return f"{column} (%)"
    unit = "%" if in_percent(metric) else unit if in_unit(metric) else ""
    return f"{column} ({metric_name(metric)}{f', {unit}' if unit else ''})"
