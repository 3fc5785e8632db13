"""A folder appears whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.kernels.building.publishing import published_folder
from gossamer.runtime.errors import JobError, OptionError

MANIFEST = '{"format": "gossamer-artifact"}'


def publish(out: Path, text: str) -> None:
    with published_folder(out) as folder:
        (folder / "manifest.json").write_text(MANIFEST)
        (folder / "text").write_text(text)


def test_a_new_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with published_folder(out) as folder:
        (folder / "text").write_text("new")
        assert not out.exists()
    assert (out / "text").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_folder_has_the_usual_permissions(tmp_path: Path) -> None:
    publish(tmp_path / "out", "new")
    (tmp_path / "usual").mkdir()
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "usual").stat().st_mode
    )


def test_an_earlier_artifact_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(out, "old")
    (out / "left over").write_text("")
    publish(out, "new")
    assert {path.name for path in out.iterdir()} == {"manifest.json", "text"}
    assert (out / "text").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_to_an_artifact_keeps_pointing_at_it(tmp_path: Path) -> None:
    publish(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    publish(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "text").read_text() == "new"


@pytest.mark.parametrize("content", ["notes.txt", "manifest.json"])
def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / content).write_text("{}")
    with pytest.raises(OptionError, match="other things"):
        publish(tmp_path, "new")
    assert [path.name for path in tmp_path.iterdir()] == [content]


def test_a_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OptionError, match="is a file"):
        publish(tmp_path / "out", "new")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="parent folder is missing"):
        publish(tmp_path / "no" / "out", "new")


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), JobError("failed")])
def test_an_interrupted_block_leaves_what_was_there(tmp_path: Path, failure: BaseException) -> None:
    out = tmp_path / "out"
    publish(out, "old")

    def interrupted() -> None:
        with published_folder(out) as folder:
            (folder / "text").write_text("half")
            raise failure

    with pytest.raises(type(failure)):
        interrupted()
    assert (out / "text").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_a_failed_job_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=os.strerror(errno.ENOSPC)), published_folder(tmp_path / "out"):
        Path("/dev/full").write_text("x" * 10)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_rename_brings_the_earlier_artifact_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    publish(out, "old")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(JobError, match=os.strerror(errno.EIO)):
        publish(out, "new")
    assert (out / "text").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_killed_process_leaves_no_half_written_folder(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from gossamer.kernels.building.publishing import published_folder\n"
        "with published_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'text').write_text('half')\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "out").exists()
