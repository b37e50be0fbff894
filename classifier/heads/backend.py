"""TensorFlow and its Keras, for the modules that build and train networks.

They alone import this; everything that only tags goes without TensorFlow.
"""

from __future__ import annotations

import os
from typing import Any

from vggish.common.extras import import_extra

# What it says of oneDNN and of absent GPUs is not for users.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_PURPOSE = "training, exporting or fine-tuning a head"

tf: Any = import_extra("tensorflow", extra="train", purpose=_PURPOSE)

# Nor is its advice on traced functions.
tf.get_logger().setLevel("ERROR")

keras: Any = import_extra("tf_keras", extra="train", purpose=_PURPOSE)
