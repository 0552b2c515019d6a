import importlib

import pytest


@pytest.fixture(autouse=True, scope="session")
def torchs_compiler():
    """With it each operator's result is compared with that of torch's own meta kernel."""
    importlib.import_module("torch._dynamo")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def one_thread():
    """Convolutions take other buffers with several; tests of other folders leave other numbers."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
