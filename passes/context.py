"""What passes are given beside the model: calibration data, and how to work over many layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import onnx_ir as ir

    from .activations import Calibration

__all__ = ["Context"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Context:
    """Where and on what data passes run.

    `calibration` is None where the user gave no sample inputs. `notify` is called with a text for each layer
    that is done. `source` is the model before the first lossy pass, for passes that compare with it.
    """

    calibration: Calibration | None = None
    notify: Callable[[str], None] | None = None
    source: ir.Model | None = None

    def map(
        self,
        function: Callable[..., Result],
        items: Iterable[tuple[Any, ...]],
        names: Sequence[str],
        jobs: int = -1,
    ) -> Iterator[Result]:
        """`function(*item)` for each of `items`, in order, by joblib; `names` are shown as they finish.

        `function` is a module's function of arrays, so that a back end set with `joblib.parallel_config`
        (Dask, Ray) runs it on other machines. Without one, threads of this process do, since numpy lets them
        run side by side. An item is made when a worker is free for it.
        """
        from joblib import Parallel, delayed

        parallel = Parallel(n_jobs=jobs, prefer="threads", return_as="generator", pre_dispatch="n_jobs")
        done = parallel(delayed(function)(*item) for item in items)
        yield from self.each(done, names)

    def each(self, items: Iterable[Item], names: Sequence[str]) -> Iterator[Item]:
        """`items` one by one; the name of each is shown when the next is asked for."""
        for count, (item, name) in enumerate(zip(items, names, strict=True), 1):
            yield item
            if self.notify is not None:
                self.notify(f"{name} ({count} of {len(names)})")
