"""TensorFlow and Keras 2, for the modules that build and train networks.

Nothing that only tags imports this.
"""

from __future__ import annotations

import os
from typing import Any

from vggish.common.extras import import_extra

# Its messages about oneDNN and missing GPUs are not for users.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_PURPOSE = "training, exporting or fine-tuning a head"
tf: Any = import_extra("tensorflow", extra="train", purpose=_PURPOSE)

# Nor is its advice on traced functions.
tf.get_logger().setLevel("ERROR")

keras: Any = import_extra("tf_keras", extra="train", purpose=_PURPOSE)
