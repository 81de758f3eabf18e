"""ONNX graphs: read safely, write atomically, describe."""
