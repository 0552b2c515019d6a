"""Artifacts travel by the hash of their content; what has another hash is refused."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cspbench.artifacts.spec import ARTIFACTS, ArtifactKind
from cspbench.fleet.artifacts import Item, Store, WrongContent, chunks, pair


@pytest.fixture
def made(tmp_path):
    """A model and its reference as the controller has them."""
    paths = (tmp_path / "m.onnx", tmp_path / "m.npz")
    paths[0].write_bytes(bytes(range(256)) * 40)
    paths[1].write_bytes(b"reference")
    return paths


def send(store, item, path, size=1000):
    return [store.put(item, offset, data) for offset, data in chunks(path, size)]


def test_files_arrive_in_parts_and_lie_beside_each_other(made, tmp_path):
    store = Store(tmp_path / "board")
    items = pair(*made)
    assert not any(store.holds(item) for item in items)
    assert send(store, items[0], made[0]) == [False] * 10 + [True]  # 10,240 bytes
    assert send(store, items[1], made[1]) == [True]
    for item, path in zip(items, made, strict=True):
        assert store.holds(item)
        assert store.path(item).read_bytes() == path.read_bytes()
    assert store.path(items[0]).with_suffix(".npz") == store.path(items[1])


def test_a_board_takes_files_of_the_kinds_of_artifact_that_it_has(made, monkeypatch):
    item = replace(pair(*made)[0], suffix="fx")
    with pytest.raises(WrongContent, match="does not name an artifact"):
        item.checked()
    kind = ArtifactKind("graph", "of a backend's own file", lambda *arguments: None, suffix="fx")
    monkeypatch.setitem(ARTIFACTS._entries, "graph", kind)
    assert item.checked() == item


def test_a_wrong_hash_is_refused_and_nothing_stays(made, tmp_path):
    store = Store(tmp_path / "board")
    item = pair(*made)[0]
    data = bytearray(made[0].read_bytes())
    data[5000] ^= 1
    with pytest.raises(WrongContent, match=r"arrived with hash .*, and was refused"):
        store.put(item, 0, bytes(data))
    assert not store.holds(item)
    assert not list((tmp_path / "board").iterdir())


def test_a_part_after_one_that_is_missing_is_refused(made, tmp_path):
    store = Store(tmp_path / "board")
    item = pair(*made)[0]
    store.put(item, 0, b"abc")
    with pytest.raises(WrongContent, match="at 4 does not follow 3 bytes"):
        store.put(item, 4, b"def")
    with pytest.raises(WrongContent, match="does not follow"):
        store.put(item, 3, b"x" * item.size)  # more than was promised
    assert send(store, item, made[0])[-1]  # from the start again


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.sampled_from([0, 1, 2]), max_size=40))
def test_several_write_one_file_at_a_time(made, turns, tmp_path_factory):
    """Two boards of one machine share its cache, and two controllers one board."""
    folder = tmp_path_factory.mktemp("board")
    item = pair(*made)[0]
    one, other = Store(folder), Store(folder)
    senders = [
        (store, chunks(made[0], size)) for store, size in ((one, 1000), (one, 900), (other, 999))
    ]
    complete = [False] * 3
    for number in [*turns, *[0] * 11, *[1] * 12, *[2] * 11]:
        store, parts = senders[number]
        offset, data = next(parts, (None, b""))
        if offset is not None:
            complete[number] = store.put(item, offset, data)
    assert complete == [True] * 3
    assert one.path(item).read_bytes() == made[0].read_bytes()
    assert [path.name for path in folder.iterdir()] == [one.path(item).name]


def test_a_damaged_file_of_the_cache_is_detected(made, tmp_path):
    store = Store(tmp_path / "board")
    item = pair(*made)[0]
    send(store, item, made[0])
    store.path(item).write_bytes(b"other bytes")
    assert not store.holds(item)
    assert not store.path(item).exists()


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=12), st.integers())
def test_no_name_of_a_request_becomes_a_path_outside(digest, stem, suffix, size):
    item = Item(digest, size, suffix, stem)
    with pytest.raises(WrongContent):
        Store().path(item)


def test_only_artifacts_are_taken(made, tmp_path):
    good = pair(*made)[0]
    for bad in (replace(good, suffix="so"), replace(good, stem="../x"), replace(good, size=-1)):
        with pytest.raises(WrongContent, match="does not name an artifact"):
            Store(tmp_path).path(bad)


def test_an_empty_file_has_one_part(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    assert list(chunks(path)) == [(0, b"")]
