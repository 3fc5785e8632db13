"""Distances move into loads where that changes nothing, and every instruction is stepped over rightly."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.kernels.building.wasm_offsets import MOST, fold_offsets

wasmtime = pytest.importorskip("wasmtime")

# all kinds of immediates around the loads, so that a wrong length would show
BUSY = """
  (func (export "f") (param i32 i32) (result i32) (local v128 i64)
    (local.set 2 (v128.const i32x4 65 106 0x41414141 0x6a6a6a6a))
    (local.set 2 (i8x16.shuffle 0 17 2 19 4 21 6 23 8 25 10 27 12 29 14 31 (local.get 2) (local.get 2)))
    (local.set 3 (i64.const -1234567890123))
    (block (block (block (br_table 0 1 2 (local.get 1)))))
    (loop (local.set 1 (i32.add (local.get 1) (i32.const 1)))
      (br_if 0 (i32.lt_s (local.get 1) (i32.const 5))))
    (memory.fill (i32.const 4096) (i32.const 3) (i32.const 16))
    (v128.store offset=8 (i32.const 4200)
      (v128.load32_splat offset=4 (i32.add (local.get 0) (i32.const 300))))
    (local.set 2 (v128.load8_lane 3 (i32.add (local.get 0) (i32.const 9)) (local.get 2)))
    (f32.store (i32.const 4300) (f32.const 1.5))
    (i32.add
      (i32.add (i32x4.extract_lane 2 (i32x4.trunc_sat_f32x4_s (local.get 2)))
        (i32.load (i32.add (local.get 0) (i32.const 1000))))
      (i32.add (i32.load8_u offset=2 (i32.add (local.get 0) (i32.const 70)))
        (i32.add (i32.load offset=8 (i32.const 4200)) (i32.trunc_sat_f32_s (f32.const 2.75))))))
"""


def module(body: str) -> bytes:
    text = f'(module (memory (export "memory") 2) (data (i32.const 0) "{data()}") {body})'
    return bytes(wasmtime.wat2wasm(text))


def data() -> str:
    return "".join(f"\\{(7 * i) % 251:02x}" for i in range(3000))


def run(binary: bytes, *arguments: int) -> Any:
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, binary), [])
    return instance.exports(store)["f"](store, *arguments)


def loading(address: str) -> bytes:
    return module(f'(func (export "f") (param i32) (result i32) (i32.load offset=4 {address}))')


def test_a_module_with_every_kind_of_immediate_computes_the_same() -> None:
    before = module(BUSY)
    after = fold_offsets(before)
    assert len(after) < len(before)
    for start in (0, 5, 1500):
        assert run(after, start, 1) == run(before, start, 1)
    assert fold_offsets(after) == after


def test_an_addition_before_a_load_becomes_its_offset() -> None:
    folded = fold_offsets(loading(f"(i32.add (local.get 0) (i32.const {MOST}))"))
    assert folded == module(
        f'(func (export "f") (param i32) (result i32) (i32.load offset={MOST + 4} (local.get 0)))'
    )


@pytest.mark.parametrize(
    "address",
    [
        "(i32.add (local.get 0) (i32.const -16))",
        f"(i32.add (local.get 0) (i32.const {MOST + 1}))",
        "(i32.sub (local.get 0) (i32.const 16))",
        "(i32.add (i32.const 16) (local.get 0))",
        "(local.tee 0 (i32.add (local.get 0) (i32.const 16)))",
    ],
)
def test_anything_else_stays(address: str) -> None:
    assert fold_offsets(loading(address)) == loading(address)
