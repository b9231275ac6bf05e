"""Long-tailed object detection: losses from class statistics, on torchvision's detectors."""

__version__ = "0.1.0"
