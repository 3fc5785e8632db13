"""A model small enough to compile from C: y[i] = x[i] * w[i] + 1, and its weights, without TVM."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gossamer.kernels.building import build_artifact
from gossamer.kernels.building.toolchain import zig
from gossamer.kernels.program import LayerInfo, Program, TensorInfo, WeightInfo
from gossamer.kernels.targets import Target, find_target

SIZE = 24
WEIGHTS = np.linspace(-2, 2, SIZE, dtype=np.float32)

# Threads share the work in two steps with a barrier between them, as compiled models do: the product goes
# to the arena by interleaved elements, the sum to the output by blocks, which other threads' products need.
TOY = """
typedef int i32;
extern void gossamer_sync(void *sync);
extern void *memcpy(void *to, const void *from, __SIZE_TYPE__ bytes);
i32 SYMBOL(const float *x, float *y, const float *w, float *arena, i32 thread, i32 threads, void *sync) {
    static const char text[] = "kept";
    for (i32 i = thread; i < SIZE; i += threads) arena[i] = x[i] * w[i];
    if (x[0] < -1e30f) return 7;
    gossamer_sync(sync);
    for (i32 i = SIZE * thread / threads; i < SIZE * (thread + 1) / threads; ++i) y[i] = arena[i] + 1.0f;
    memcpy(arena + SIZE, text, (__SIZE_TYPE__)threads);
    EXTRA
    return 0;
}
"""


def toy_program(name: str = "toy", weights: bytes | None = None) -> Program:
    """What lowering would give for the toy, with text that no C file takes unescaped."""
    data = WEIGHTS.tobytes() if weights is None else weights
    return Program(
        name=f'{name} "quoted" */ \\ é',
        symbol=f"gossamer_entry_{name}",
        inputs=(TensorInfo("x", "float32", (2, SIZE // 2)),),
        outputs=(TensorInfo("y*/", "float32", (SIZE,)),),
        module=None,
        weights=data,
        weight_table=(WeightInfo("w", 0, len(data), "float32", "raw"),) if data else (),
        arena_bytes=SIZE * 4 + 256,
        layers=(LayerInfo("node", "Mul", "elementwise", (SIZE,)),),
    )


def toy_objects(folder: Path, target: Target, name: str = "toy", extra: str = "") -> dict[str, bytes]:
    """One object for each variant of `target`; `extra` is C text inside the entry."""
    source = folder / "toy.c"
    text = TOY.replace("SYMBOL", f"gossamer_entry_{name}").replace("SIZE", str(SIZE), 0)
    source.write_text(f"#define SIZE {SIZE}\n" + text.replace("EXTRA", extra), encoding="utf-8")
    objects = {}
    for variant, features in target.variants.items():
        flags = [f"-m{feature[1:]}" for feature in features]
        if target.family == "wasm":
            flags += ["-msimd128", "-mbulk-memory"]
        out = folder / f"{variant}.o"
        zig("cc", "-target", target.zig, "-O2", "-g", "-fPIC", "-ffreestanding", *flags, "-c", source, "-o", out)
        objects[variant] = out.read_bytes()
    return objects


def build_toy(
    folder: Path,
    target_name: str = "host",
    name: str = "toy",
    *,
    extra: str = "",
    embed_weights: bool = False,
    threads: int = 1,
) -> Path:
    """The toy's artifact for a target, in `folder`."""
    target = find_target(target_name)
    objects = toy_objects(folder, target, name, extra)
    out = folder / f"{name}-{target_name}"
    return build_artifact(
        toy_program(name), objects, target, out, embed_weights=embed_weights, threads=threads
    )


def toy_output(x: np.ndarray) -> np.ndarray:
    """What the toy computes."""
    return x.reshape(-1) * WEIGHTS + np.float32(1)


def copy_artifact(artifact: Path, out: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(artifact, out)
    return out


def names(paths: Iterable[Path]) -> set[str]:
    return {path.name for path in paths}
