"""Put an extra 1x1 convolution before the classifier's pooling: a deliberate slowdown."""

from pathlib import Path

MODEL = Path(__file__).with_name("models") / "smallcsp.cfg"
EXTRA = """
[convolutional]
batch_normalize=1
filters=256
size=1
stride=1
pad=0
activation=mish

[avgpool]
"""

text = MODEL.read_text(encoding="utf-8")
MODEL.write_text(text.replace("\n[avgpool]\n", EXTRA), encoding="utf-8")
