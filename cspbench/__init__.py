"""cspbench: benchmarks that explain themselves, for CNNs on CUDA, CPU-OpenCV and Jetson."""

__version__ = "0.1.0.dev0"
