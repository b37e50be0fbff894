"""TensorFlow's `Example` messages, defined without TensorFlow."""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def message_class(name: str) -> Any:
    """The protocol buffer's message class `tensorflow.<name>`.

    Args:
        name: `SequenceExample`, one of its parts such as `FeatureList`, or
            `UnparsedSequenceExample`, the same message with its feature lists left as bytes.
            An `Example` is a `SequenceExample` whose features are the context.
    """
    from google.protobuf import message_factory

    descriptor = _pool().FindMessageTypeByName(f"tensorflow.{name}")
    return message_factory.GetMessageClass(descriptor)


@functools.cache
def _pool() -> Any:
    """Declarations of the messages.

    They have a pool of their own: so they neither need TensorFlow nor clash with its own
    declarations in the same process.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="audiotag/example.proto", package="tensorflow", syntax="proto3"
    )

    def add_message(name: str, *fields: tuple[str, int, bool, str | None]) -> Any:
        message = file.message_type.add(name=name)
        for number, (field_name, kind, repeated, type_name) in enumerate(fields, start=1):
            message.field.add(
                name=field_name,
                number=number,
                type=kind,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
                type_name=f".tensorflow.{type_name}" if type_name else None,
            )
        return message

    def add_map(name: str, map_field: str, value_type: str | None) -> None:
        entry = "".join(part.capitalize() for part in map_field.split("_")) + "Entry"
        message = add_message(
            name, (map_field, field.TYPE_MESSAGE, True, f"{name}.{entry}")
        ).nested_type.add(name=entry)
        message.options.map_entry = True
        message.field.add(name="key", number=1, type=field.TYPE_STRING, label=1)
        message.field.add(
            name="value",
            number=2,
            type=field.TYPE_MESSAGE if value_type else field.TYPE_BYTES,
            label=1,
            type_name=f".tensorflow.{value_type}" if value_type else None,
        )

    add_message("BytesList", ("value", field.TYPE_BYTES, True, None))
    add_message("FloatList", ("value", field.TYPE_FLOAT, True, None))
    add_message("Int64List", ("value", field.TYPE_INT64, True, None))
    kinds = add_message(
        "Feature",
        ("bytes_list", field.TYPE_MESSAGE, False, "BytesList"),
        ("float_list", field.TYPE_MESSAGE, False, "FloatList"),
        ("int64_list", field.TYPE_MESSAGE, False, "Int64List"),
    )
    kinds.oneof_decl.add(name="kind")
    for kind in kinds.field:
        kind.oneof_index = 0
    add_map("Features", "feature", "Feature")
    add_message("FeatureList", ("feature", field.TYPE_MESSAGE, True, "Feature"))
    add_map("FeatureLists", "feature_list", "FeatureList")
    add_map("UnparsedFeatureLists", "feature_list", None)
    for prefix in ("", "Unparsed"):
        add_message(
            f"{prefix}SequenceExample",
            ("context", field.TYPE_MESSAGE, False, "Features"),
            ("feature_lists", field.TYPE_MESSAGE, False, f"{prefix}FeatureLists"),
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool
