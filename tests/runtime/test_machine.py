"""Which machines an artifact is refused on."""

from __future__ import annotations

import platform
import sys

import pytest

from gossamer.runtime import machine
from gossamer.runtime.errors import ArtifactError
from gossamer.runtime.manifest import TargetSpec

X86 = TargetSpec("x86-64-v3", "x86_64-linux-gnu", "x86", "elf", ("avx2", "fma"))
ARM64 = TargetSpec("arm64-linux", "aarch64-linux-gnu", "arm64", "elf", ("asimd",))
ANDROID = TargetSpec("arm64-android", "aarch64-linux-android", "arm64", "elf", ("asimd",))


def pretend(
    monkeypatch: pytest.MonkeyPatch, processor: str, flags: str, system: str = "linux", bits: int = 64
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: processor)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(sys, "maxsize", (1 << (bits - 1)) - 1)
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(flags.split()))


def test_a_fitting_machine_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "x86_64", "sse avx2 fma")
    machine.check_machine(X86)
    pretend(monkeypatch, "aarch64", "fp asimd")
    machine.check_machine(ARM64)


def test_unknown_features_are_not_held_against_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "x86_64", "")
    machine.check_machine(X86)


@pytest.mark.parametrize(
    ("target", "processor", "flags", "system", "bits", "words"),
    [
        (X86, "x86_64", "sse avx2", "linux", 64, "one without fma"),
        (X86, "aarch64", "asimd", "linux", 64, "expected processor family x86; got aarch64"),
        (ARM64, "x86_64", "avx2", "linux", 64, "expected processor family arm64; got x86_64"),
        (ARM64, "aarch64", "asimd", "linux", 32, "expected processor family arm64"),
        (ARM64, "arm64", "", "darwin", 64, "expected linux; got apple"),
        (ANDROID, "aarch64", "asimd", "linux", 64, "expected android; got linux"),
        (X86, "AMD64", "", "win32", 64, "expected linux; got win32"),
    ],
)
def test_what_does_not_fit_is_named(
    monkeypatch: pytest.MonkeyPatch,
    target: TargetSpec,
    processor: str,
    flags: str,
    system: str,
    bits: int,
    words: str,
) -> None:
    pretend(monkeypatch, processor, flags, system, bits)
    with pytest.raises(ArtifactError, match=words):
        machine.check_machine(target)
