"""What has no form in standard operators is refused by name, before anything is built."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.kernels.lowering import lower
from gossamer.kernels.targets import find_target
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.runtime.errors import UnsupportedError

from .expanding import Case, model_of

X = np.zeros((1, 4, 6, 6), np.float32)


@pytest.mark.parametrize("domain", ["com.microsoft.nchwc", "com.ms.internal.nhwc"])
def test_layouts_for_one_machine_say_how_to_save_the_model(domain: str) -> None:
    model, _ = model_of(Case("ReorderInput", [X], domain=domain))
    model.opset_import.add(domain=domain, version=1)
    model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=1)
    with pytest.raises(UnsupportedError, match=r"ReorderInput.*EXTENDED"):
        prepare(load_model(model))


def test_an_attribute_without_a_form_is_named() -> None:
    heads = [np.zeros((1, 3, 16), np.float32)] * 3
    sizes = [np.full(1, 2, np.int32), np.array(3, np.int32)]
    options = {"num_heads": 1, "kv_num_heads": 1, "smooth_softmax": 1}
    case = Case("GroupQueryAttention", [*heads, None, None, *sizes], options)
    model, _ = model_of(case)
    for size in (1, 3, 16):
        model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=size)
    prepared = prepare(load_model(model))
    with pytest.raises(UnsupportedError, match=r"GroupQueryAttention node 'node'.*smooth_softmax = 1"):
        lower(prepared, find_target("host"))
