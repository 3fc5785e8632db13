"""A model small enough to compile from C, y[i] = x[i] * w[i] + 1, so that artifacts need no TVM to test."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.kernels.building import build_artifact
from gossamer.kernels.building.toolchain import zig
from gossamer.kernels.program import LayerInfo, Program, TensorInfo, WeightInfo
from gossamer.kernels.targets import Target, find_target
from gossamer.runtime.specs import StepSpec

Array = npt.NDArray[Any]
SIZE = 24

# Threads share the work in two steps with a barrier between them, as compiled models do: the product goes
# to the arena by interleaved elements, the sum to the output by blocks, which need other threads' products.
SOURCE = """
typedef int i32;
extern void gossamer_sync(void *sync);
i32 ENTRY(const float *x, float *y, const float *w, float *arena, i32 thread, i32 threads, void *sync) {
    for (i32 i = thread; i < SIZE; i += threads) arena[i] = x[i] * WEIGHT;
    if (x[0] < -1e30f && thread == threads - 1) return 7;
    if (sync) gossamer_sync(sync);
    for (i32 i = SIZE * thread / threads; i < SIZE * (thread + 1) / threads; ++i) y[i] = arena[i] + 1.0f;
    EXTRA
    if (sync) gossamer_sync(sync);
    return 0;
}
"""


class Toy:
    """Builds artifacts of the toy; the same request gives the same folder, which tests leave as it is."""

    size = SIZE
    weights = np.linspace(-2, 2, SIZE, dtype=np.float32)
    fails_at = np.float32(-2e30)  # in x[0]: then the last thread reports an error

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._built: dict[tuple[object, ...], Path] = {}
        self._count = itertools.count()

    def program(self, name: str = "toy", **changes: Any) -> Program:
        """What lowering would give, with names that no C file takes as they are."""
        fields: dict[str, Any] = {
            "name": f'{name} "quoted" */ \\ é',
            "symbol": f"gossamer_entry_{name}",
            "inputs": (TensorInfo("x", "float32", (2, SIZE // 2)),),
            "outputs": (TensorInfo("y*/", "float32", (SIZE,)),),
            "module": None,
            "weights": self.weights.tobytes(),
            "weight_table": (WeightInfo("w", 0, self.weights.nbytes, "float32", "raw"),),
            "arena_bytes": SIZE * 4,
            "layers": (LayerInfo("node", "Mul", "elementwise", (SIZE,)),),
            "steps": (StepSpec("product", ("node",), (SIZE,), macs=SIZE), StepSpec("sum", (), (SIZE,))),
        }
        return Program(**{**fields, **changes})

    def source(self, name: str = "toy", extra: str = "", weight: str = "w[i]") -> str:
        """The C text of the entry; `extra` stands inside it, `weight` replaces w[i]."""
        text = SOURCE.replace("ENTRY", f"gossamer_entry_{name}").replace("EXTRA", extra)
        return text.replace("WEIGHT", weight).replace("SIZE", str(SIZE))

    def objects(
        self, target: Target, name: str = "toy", extra: str = "", weight: str = "w[i]"
    ) -> dict[str, bytes]:
        """One object for each variant; the rest as of `source`."""
        folder = self._folder / f"objects{next(self._count)}"
        folder.mkdir()
        (folder / "toy.c").write_text(self.source(name, extra, weight), encoding="utf-8")
        objects = {}
        for variant, features in target.variants.items():
            flags = [f"-m{feature[1:]}" for feature in features]
            flags += ["-msimd128", "-mbulk-memory"] if target.family == "wasm" else ["-g"]
            command = ["cc", "-target", target.zig, "-O2", "-fPIC", "-ffreestanding", *flags]
            zig(*command, "-c", folder / "toy.c", "-o", folder / f"{variant}.o")
            objects[variant] = (folder / f"{variant}.o").read_bytes()
        return objects

    def artifact(self, target_name: str = "host", name: str = "toy", extra: str = "", **options: Any) -> Path:
        """The artifact's folder; `options` as of `build_artifact`."""
        key = (target_name, name, extra, *sorted(options.items()))
        if key not in self._built:
            target = find_target(target_name)
            out = self._folder / f"{name}-{target_name}-{next(self._count)}"
            objects = self.objects(target, name, extra)
            self._built[key] = build_artifact(self.program(name), objects, target, out, **options)
        return self._built[key]

    def output(self, x: Array) -> Array:
        """What the toy computes."""
        return np.asarray(x.reshape(-1) * self.weights + np.float32(1))


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The builder of toy artifacts."""
    pytest.importorskip("ziglang")
    return Toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def ramp() -> Array:
    """An input of the toy."""
    return np.arange(SIZE, dtype=np.float32).reshape(2, SIZE // 2)


@pytest.fixture
def damaged(toy: Toy, tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of a toy artifact that a test may damage."""

    def copy(target_name: str = "host", **options: Any) -> Path:
        return Path(shutil.copytree(toy.artifact(target_name, **options), tmp_path / "artifact"))

    return copy
