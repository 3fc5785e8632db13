"""Feeds drawn at random and read from files. (What sessions refuse is in test_session.)"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gossamer.runtime.errors import FeedError
from gossamer.runtime.feeds import check_feeds, random_feeds, read_feeds
from gossamer.runtime.manifest import DTYPES, TensorSpec


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (3, 4)])
def test_random_feeds_have_the_type_and_shape_asked_for(dtype: str, shape: tuple[int, ...]) -> None:
    tensor = TensorSpec("x", dtype, shape)
    feeds = random_feeds([tensor])
    assert (feeds["x"].dtype.name, feeds["x"].shape) == (dtype, shape)
    (checked,) = check_feeds([tensor], feeds)
    assert checked.tobytes() == feeds["x"].tobytes()  # some types have numbers that equal nothing
    assert checked.shape == shape


def test_random_feeds_repeat_with_the_seed() -> None:
    tensors = [TensorSpec("a", "float32", (50,)), TensorSpec("b", "int64", (50,))]
    first, again, other = random_feeds(tensors), random_feeds(tensors), random_feeds(tensors, seed=1)
    for name in ("a", "b"):
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])
    assert set(first["b"]) == {0, 1}


def test_feeds_come_in_the_order_of_the_inputs() -> None:
    tensors = [TensorSpec("b", "int8", (1,)), TensorSpec("a", "int8", (1,))]
    arrays = check_feeds(tensors, {"a": np.ones(1, np.int8), "b": np.zeros(1, np.int8)})
    assert [int(array[0]) for array in arrays] == [0, 1]


def test_a_scalar_of_numpy_feeds_an_input_without_dimensions() -> None:
    (array,) = check_feeds([TensorSpec("x", "float32", ())], {"x": np.float32(3)})
    assert array.shape == ()


def test_an_npz_file_is_read_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.arange(3), y=np.float32(1))
    feeds = read_feeds(tmp_path / "in.npz")
    assert set(feeds) == {"x", "y"}
    np.testing.assert_array_equal(feeds["x"], [0, 1, 2])


def test_files_that_are_no_npz_are_refused_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.arange(3))
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], dtype=object))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "cut.npz", x=np.arange(1000))
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:-100])
    names = ["one.npy", "pickled.npz", "text.npz", "empty.npz", "cut.npz", "absent.npz", "."]
    for name in names:
        with pytest.raises(FeedError) as caught:
            read_feeds(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
