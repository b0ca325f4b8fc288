"""What a task is: its kind, the size of its output, its loss, its metrics, and which label values count."""

from reprkit.tasks.pixels import PixelTask, pixel_tasks
from reprkit.tasks.scores import LOWER_IS_BETTER, Scores
from reprkit.tasks.task import DENSE_KINDS, MISSING_CLASS, VECTOR_KINDS, Kind, Task

__all__ = [
    "DENSE_KINDS", "LOWER_IS_BETTER", "MISSING_CLASS", "VECTOR_KINDS", "Kind", "PixelTask", "Scores", "Task",
    "pixel_tasks",
]  # fmt: skip
