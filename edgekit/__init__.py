"""edgekit: from a trained model to the smallest, fastest ONNX file that keeps its accuracy."""

__version__ = "0.1.0"
