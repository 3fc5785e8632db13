"""Calls of the C compiler."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from gossamer.kernels.building import toolchain
from gossamer.kernels.building.toolchain import ToolError, compile_c, zig
from gossamer.kernels.targets import find_target
from gossamer.runtime.errors import OptionError


def test_a_failing_tool_tells_its_first_error_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    source = tmp_path / "wrong.c"
    source.write_text("int f(void) { return undeclared; }\nint g(void) { return other; }\n")
    with pytest.raises(ToolError, match=r"zig cc failed; got .*undeclared") as caught:
        compile_c(source, tmp_path / "out.o", find_target("x86-64-v2").zig)
    assert "\n" not in str(caught.value)
    assert "other" in caught.value.output


def test_a_missing_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "find_spec", lambda name: None)
    monkeypatch.setattr(toolchain, "_zig", toolchain._zig.__wrapped__)  # what was found before is kept
    with pytest.raises(OptionError, match=r"pip install 'gossamer\[compile\]'"):
        zig("version")


def test_the_compiler_does_not_see_modules_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs ziglang")
    (tmp_path / "ziglang.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    assert zig("version").strip()[0].isdigit()


def test_glibc_is_the_oldest_with_64_bit_arm() -> None:
    assert toolchain.platform_triple(find_target("arm64-linux")) == "aarch64-linux-gnu.2.17"
    assert toolchain.platform_triple(find_target("arm64-android")) == "aarch64-linux-android"
