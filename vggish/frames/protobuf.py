"""TensorFlow's `Example` messages, declared without TensorFlow."""

from __future__ import annotations

import functools
from typing import Any

# Fields in the order of their numbers. "map X" is map<string, X>; "oneof X" is one choice of
# several. Unparsed messages leave the feature lists as bytes.
_MESSAGES = {
    "BytesList": {"value": "repeated bytes"},
    "FloatList": {"value": "repeated float"},
    "Int64List": {"value": "repeated int64"},
    "Feature": {
        "bytes_list": "oneof BytesList",
        "float_list": "oneof FloatList",
        "int64_list": "oneof Int64List",
    },
    "Features": {"feature": "map Feature"},
    "FeatureList": {"feature": "repeated Feature"},
    "FeatureLists": {"feature_list": "map FeatureList"},
    "SequenceExample": {"context": "optional Features", "feature_lists": "optional FeatureLists"},
    "UnparsedFeatureLists": {"feature_list": "map bytes"},
    "UnparsedSequenceExample": {
        "context": "optional Features",
        "feature_lists": "optional UnparsedFeatureLists",
    },
}


@functools.cache
def message_class(name: str) -> Any:
    """The class of the protocol buffer message `tensorflow.<name>`, such as `SequenceExample`.

    `UnparsedSequenceExample` is the same message with its feature lists left as bytes. An
    `Example` is a `SequenceExample` whose features are the context.
    """
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"tensorflow.{name}"))


@functools.cache
def _pool() -> Any:
    """A pool of its own, so that the messages do not clash with TensorFlow's in one process."""
    from google.protobuf import descriptor_pb2, descriptor_pool

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="audiotag/example.proto", package="tensorflow", syntax="proto3"
    )

    def add_field(message: Any, name: str, label: str, kind: str) -> Any:
        field = message.field.add(name=name, number=len(message.field) + 1)
        is_repeated = label in ("repeated", "map")
        field.label = field_type.LABEL_REPEATED if is_repeated else field_type.LABEL_OPTIONAL
        if kind[0].isupper():
            field.type, field.type_name = field_type.TYPE_MESSAGE, f".tensorflow.{kind}"
        else:
            field.type = getattr(field_type, f"TYPE_{kind.upper()}")
        return field

    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, declaration in fields.items():
            label, kind = declaration.split()
            if label == "map":
                entry_name = name.title().replace("_", "") + "Entry"
                entry = message.nested_type.add(name=entry_name)
                entry.options.map_entry = True
                add_field(entry, "key", "optional", "string")
                add_field(entry, "value", "optional", kind)
                kind = f"{message_name}.{entry_name}"
            field = add_field(message, name, label, kind)
            if label == "oneof":
                if not message.oneof_decl:
                    message.oneof_decl.add(name="kind")
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool
