"""Small networks of the kinds that an analysis must get right."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class ConvBn(nn.Sequential):
    def __init__(self, cin, cout, k=1, s=1, g=1, act="relu"):
        acts = {"relu": nn.ReLU(inplace=True), "leaky": nn.LeakyReLU(0.1, inplace=True)}
        acts |= {"silu": nn.SiLU(), "none": nn.Identity()}
        super().__init__(
            nn.Conv2d(cin, cout, k, s, k // 2, groups=g, bias=False),
            nn.BatchNorm2d(cout),
            acts[act],
        )


class ResNeXtBlock(nn.Module):
    def __init__(self, cin, mid, cout, stride):
        super().__init__()
        self.body = nn.Sequential(
            ConvBn(cin, mid), ConvBn(mid, mid, 3, stride, 8), ConvBn(mid, cout, act="none")
        )
        plain = cin == cout and stride == 1
        self.down = nn.Identity() if plain else ConvBn(cin, cout, 1, stride, act="none")
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body(x) + self.down(x))


class ResNeXt(nn.Module):
    """Grouped convolutions, residual sums, a linear classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(ConvBn(3, 32, 7, 2), nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleList(
            [
                nn.Sequential(ResNeXtBlock(32, 32, 64, 1), ResNeXtBlock(64, 32, 64, 1)),
                nn.Sequential(ResNeXtBlock(64, 64, 128, 2), ResNeXtBlock(128, 64, 128, 1)),
            ]
        )
        self.fc = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class TwoWay(nn.Module):
    def __init__(self, cin, hidden):
        super().__init__()
        self.a = nn.Sequential(ConvBn(cin, hidden), ConvBn(hidden, 16, 3))
        self.b = nn.Sequential(ConvBn(cin, hidden), ConvBn(hidden, 16, 3), ConvBn(16, 16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.a(x), self.b(x)], 1)


class Pelee(nn.Module):
    """Dense connections: concatenation upon concatenation."""

    def __init__(self):
        super().__init__()
        self.stem = ConvBn(3, 32, 3, 2)
        self.pool = nn.MaxPool2d(2, 2)
        self.side = nn.Sequential(ConvBn(32, 16), ConvBn(16, 32, 3, 2))
        self.dense = nn.Sequential(*(TwoWay(64 + 32 * i, 32) for i in range(4)))
        self.transition = nn.Sequential(ConvBn(192, 192), nn.AvgPool2d(2, 2))
        self.fc = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.pool(x), self.side(x)], 1)
        x = self.transition(self.dense(x))
        return self.fc(x.mean((2, 3)))


class Yolo(nn.Module):
    """A slice split, SPP, upsampling, two heads in a dictionary."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            ConvBn(3, 16, 3, 2, act="silu"), ConvBn(16, 32, 3, 2, act="leaky")
        )
        self.part = ConvBn(16, 16, 3, act="leaky")
        self.merge = ConvBn(32, 32, act="leaky")
        self.down = ConvBn(32, 64, 3, 2, act="leaky")
        self.pools = nn.ModuleList([nn.MaxPool2d(k, 1, k // 2) for k in (5, 9)])
        self.mix = ConvBn(192, 64, act="leaky")
        self.lateral = ConvBn(64, 32, act="leaky")
        self.heads = nn.ModuleDict({"coarse": nn.Conv2d(64, 18, 1), "fine": nn.Conv2d(64, 18, 1)})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        bypass, computed = x.chunk(2, 1)
        fine = self.merge(torch.cat([bypass, self.part(computed)], 1))
        coarse = self.down(fine)
        coarse = self.mix(torch.cat([coarse, *(pool(coarse) for pool in self.pools)], 1))
        up = F.interpolate(self.lateral(coarse), scale_factor=2.0, mode="nearest")
        return {
            "coarse": self.heads["coarse"](coarse),
            "fine": self.heads["fine"](torch.cat([fine, up], 1)),
        }


class VitBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(attended.transpose(1, 2).reshape(n, length, width))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """Patches of 8, width 64, 4 heads, 2 blocks, a class token and position embeddings."""

    def __init__(self, side=32):
        super().__init__()
        tokens = (side // 8) ** 2 + 1
        self.patch = nn.Conv2d(3, 64, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, 64))
        self.position = nn.Parameter(torch.zeros(1, tokens, 64))
        self.blocks = nn.Sequential(VitBlock(64, 4), VitBlock(64, 4))
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Mobile(nn.Module):
    """Depthwise, dilated and transposed convolutions, squeeze and excitation."""

    def __init__(self):
        super().__init__()
        self.stem = ConvBn(3, 16, 3, 2, act="silu")
        self.depthwise = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.dilated = nn.Conv2d(16, 24, 3, padding=2, dilation=2)
        self.squeeze, self.excite = nn.Conv2d(24, 6, 1), nn.Conv2d(6, 24, 1)
        self.up = nn.ConvTranspose2d(24, 8, 3, 2, 1, 1, groups=2)
        self.prelu = nn.PReLU(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dilated(F.hardswish(self.depthwise(self.stem(x))))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return self.prelu(self.up(x * gate))


NETS = {
    "resnext": (ResNeXt, 96),
    "pelee": (Pelee, 64),
    "yolo": (Yolo, 96),
    "vit": (Vit, 32),
    "mobile": (Mobile, 64),
}
