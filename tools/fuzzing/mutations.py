"""Changes to a protobuf message that keep it a message: fields set, cleared, copied, moved, repeated."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]

__all__ = ["damaged", "mutated"]

Message = Any
Field = Any
_INTEGERS = (0, 1, -1, 2, -2, 3, 5, 8, 63, 1000, 65536, 2**31 - 1, -(2**31), 2**31, 2**32, 2**40, 2**62)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e38, float("inf"), float("-inf"), float("nan"))
_TEXTS = ("", "x", "y", "\t\n\0", "é" * 3, "a" * 5000, "../../etc/passwd", "ai.onnx", "gossamer")
_INTEGRAL = (
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
    FieldDescriptor.CPPTYPE_ENUM,
)
_PLAIN = frozenset({"doc_string", "producer_name", "producer_version", "metadata_props", "model_version"})
"""Fields that nothing reads."""


def mutated(proto: onnx.ModelProto, rng: random.Random) -> bytes:
    """The bytes of a copy with one to four changes; one in ten is damaged beyond its structure."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        _mutate(copy, rng)
    data: bytes = copy.SerializeToString()
    return damaged(data, rng) if rng.random() < 0.1 else data


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` with a few bytes changed, removed, repeated or put in, or cut short."""
    whole = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        start = rng.randrange(len(whole) + 1)
        end = min(len(whole), start + rng.choice((1, 1, 2, 16, 300)))
        match rng.randrange(5):
            case 0:
                whole[start:end] = bytes(b ^ (1 << rng.randrange(8)) for b in whole[start:end])
            case 1:
                del whole[start:end]
            case 2:
                whole[start:start] = whole[start:end]
            case 3:
                whole[start:end] = rng.choice((b"\0", b"\xff", b"\x80" * 10, rng.randbytes(end - start)))
            case _:
                del whole[max(start, 1) :]
    return bytes(whole)


def _mutate(root: Message, rng: random.Random) -> None:
    places = [(m, f) for m in _messages(root) for f in m.DESCRIPTOR.fields if f.name not in _PLAIN]
    held = [(m, f) for m, f in places if _count(m, f)]
    message, field = rng.choice(held if held and rng.random() < 0.85 else places)
    if field.is_repeated:
        _mutate_repeated(root, message, field, rng)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        _mutate_message(root, message, field, rng)
    elif rng.random() < 0.15:
        message.ClearField(field.name)
    else:
        _assign(message, field, _scalar(root, field, getattr(message, field.name), rng))


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for inner in value if field.is_repeated else (value,):
                yield from _messages(inner)


def _count(message: Message, field: Field) -> int:
    return len(getattr(message, field.name)) if field.is_repeated else int(message.HasField(field.name))


def _mutate_repeated(root: Message, message: Message, field: Field, rng: random.Random) -> None:
    values = getattr(message, field.name)
    chosen = rng.randrange(len(values)) if values else None
    action = rng.randrange(6)
    if chosen is None or action == 0:
        value = _fresh(root, field, rng)
        for _ in range(rng.choice((1, 1, 1, 2, 33, 300))):
            _append(values, field, value)
    elif action == 1:
        del values[chosen]
    elif action == 2:
        _append(values, field, values[rng.randrange(len(values))])
    elif action == 3:
        message.ClearField(field.name)
    elif action == 4:
        kept = [values[i] for i in rng.sample(range(len(values)), len(values))]
        copies = [type(v).FromString(v.SerializeToString()) if _is_message(field) else v for v in kept]
        message.ClearField(field.name)
        getattr(message, field.name).extend(copies)
    elif _is_message(field):
        values[chosen].CopyFrom(_fresh(root, field, rng))
    else:
        _put(values, chosen, _scalar(root, field, values[chosen], rng))


def _is_message(field: Field) -> bool:
    return bool(field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE)


def _append(values: Any, field: Field, value: Any) -> None:
    if _is_message(field):
        values.add().CopyFrom(value)
    elif _fits(value, lambda: values.append(value)):
        pass


def _put(values: Any, index: int, value: Any) -> None:
    _fits(value, lambda: values.__setitem__(index, value))


def _assign(message: Message, field: Field, value: Any) -> None:
    _fits(value, lambda: setattr(message, field.name, value))


def _fits(value: Any, put: Any) -> bool:
    """Whether protobuf takes the value: numbers have ranges."""
    try:
        put()
    except (ValueError, TypeError, OverflowError):
        return False
    return True


def _mutate_message(root: Message, message: Message, field: Field, rng: random.Random) -> None:
    if rng.random() < 0.3:
        message.ClearField(field.name)
    else:
        getattr(message, field.name).CopyFrom(_fresh(root, field, rng))


def _fresh(root: Message, field: Field, rng: random.Random) -> Any:
    """A value for `field`: another one of its kind in the model, an empty message, or a drawn scalar."""
    if not _is_message(field):
        return _scalar(root, field, field.default_value if not field.is_repeated else _zero(field), rng)
    like = [m for m in _messages(root) if m.DESCRIPTOR is field.message_type]
    value = field.message_type._concrete_class()
    if like and rng.random() < 0.9:
        value.CopyFrom(rng.choice(like))
    return value


def _zero(field: Field) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return b"" if field.type == FieldDescriptor.TYPE_BYTES else ""
    return 0


def _scalar(root: Message, field: Field, old: Any, rng: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return damaged(old, rng) if old else rng.randbytes(rng.choice((1, 4, 64)))
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _text(root, field, rng)
    if field.cpp_type in _INTEGRAL:
        near = (old + 1, old - 1, old * 2, -old, rng.randrange(24))
        return rng.choice(near if rng.random() < 0.6 else _INTEGERS)
    return rng.choice(_FLOATS)


def _text(root: Message, field: Field, rng: random.Random) -> str:
    """A text that stands elsewhere in the model, most often in the same field."""
    if rng.random() < 0.15:
        return rng.choice(_TEXTS)
    same = [v for m in _messages(root) for v in _texts(m, field.name if rng.random() < 0.7 else None)]
    return rng.choice(same) if same else rng.choice(_TEXTS)


def _texts(message: Message, name: str | None) -> Iterator[str]:
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING and name in (None, field.name):
            yield from value if field.is_repeated else (value,)
