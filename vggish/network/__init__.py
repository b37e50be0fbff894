"""The VGGish network: architecture, conversion to ONNX, inference."""
