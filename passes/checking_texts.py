"""Names and texts of a protobuf are UTF-8: its parser hands on as bytes what is not."""

from __future__ import annotations

from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]

from gossamer.runtime.errors import ModelError

__all__ = ["check_texts"]

_TEXTS_OF_TENSORS = frozenset({"name", "external_data"})
"""All other fields of a tensor are data, which looking at would copy."""


def check_texts(message: Any, where: str = "model") -> None:
    """Raises ModelError naming the first field, at any depth, whose text is not UTF-8."""
    if isinstance(message, onnx.TensorProto):
        fields = [f for f in message.DESCRIPTOR.fields if f.name in _TEXTS_OF_TENSORS]
        present = [(field, getattr(message, field.name)) for field in fields]
    else:
        present = message.ListFields()
    for field, value in present:
        for item in value if field.is_repeated else (value,):
            if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
                check_texts(item, f"{where}.{field.name}")
            elif field.type == FieldDescriptor.TYPE_STRING and not isinstance(item, str):
                raise ModelError("a text is not UTF-8", where=f"{where}.{field.name}", got=repr(item)[:80])
