"""A module of one's own with one stage, and one without any, as the text of a file."""

NET = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU(),
                                  nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c))
    def forward(self, x):
        return x + self.body(x)

def network():
    return nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.Sequential(*[Block(32) for _ in range(4)]),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))

def flat():
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten())
"""
