import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from swiftdiffusion.adapters.folder_store import FolderStore
from swiftdiffusion.daemon_threads import DaemonThreads
from swiftdiffusion.errors import InvalidArgument, NotFound, Unavailable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "loras"
    folder.mkdir()
    (tmp_path / "secret.safetensors").write_bytes(b"secret")
    for name in ("night", "ink.v1.2", "a" * 128):
        (folder / f"{name}.safetensors").write_bytes(name.encode())
    return folder


def test_finds_by_name(folder: Path) -> None:
    store = FolderStore(folder)
    assert store.names() == ["a" * 128, "ink.v1.2", "night"]
    file = store.find("ink.v1.2")
    assert (file.name, file.location, file.size) == ("ink.v1.2", str(folder / "ink.v1.2.safetensors"), 8)


def test_new_and_changed_files_are_seen(folder: Path) -> None:
    store = FolderStore(folder)
    old = store.find("night")
    (folder / "new.safetensors").write_bytes(b"new")
    assert store.find("new").size == 3
    assert store.find("night") == old
    replacement = folder / "other"
    replacement.write_bytes(b"NIGHT")  # the same size, and the same time below
    modified = Path(old.location).stat().st_mtime_ns
    os.utime(replacement, ns=(modified, modified))
    replacement.rename(folder / "night.safetensors")
    assert store.find("night") != old


def test_a_folder_is_listed_only_for_what_was_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, scan = FolderStore(folder), os.scandir
    listed: list[Path] = []

    def watch(path: Path) -> Iterator[os.DirEntry[str]]:
        listed.append(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", watch)
    for name in ("night", "ink.v1.2", "night"):
        store.find(name)
    assert len(listed) == 1
    (folder / "new.safetensors").write_bytes(b"new")
    assert store.find("new").size == 3 and len(listed) == 2
    (folder / "night.safetensors").unlink()
    with pytest.raises(NotFound):
        store.find("night")


def test_a_pickle_beside_the_file_does_no_harm(folder: Path) -> None:
    (folder / "night.pt").write_bytes(b"")
    assert FolderStore(folder).find("night").size == 5


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "../secret",
        "..\\secret",
        "/etc/passwd",
        "sub/night",
        "night\0",
        "night\n",
        "night ",
        "naïve",
        "\N{FULLWIDTH LATIN SMALL LETTER N}ight",
        "a" * 129,
        "x" * 10_000_000,
        "%2e%2e%2fsecret",
        "night*",
        "-rf",
    ],
)
def test_refuses_what_is_no_name(name: str, folder: Path) -> None:
    with pytest.raises(InvalidArgument, match="not a name") as refusal:
        FolderStore(folder).find(name)
    assert len(str(refusal.value)) < 1000
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("name", ["secret", "Night", "night.safetensors", "ink", "sub"])
def test_names_what_there_is_instead_of_an_unknown_one(name: str, folder: Path) -> None:
    (folder / "sub.safetensors").mkdir()
    with pytest.raises(NotFound, match=r"which has: .*ink\.v1\.2, night"):
        FolderStore(folder).find(name)


def test_lists_only_some_of_many_names(folder: Path) -> None:
    for number in range(500):
        (folder / f"style{number:03}.safetensors").touch()
    with pytest.raises(NotFound, match="and 487 more") as refusal:
        FolderStore(folder).find("unknown")
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".ckpt", ".pth", ".pkl"])
def test_refuses_pickles(suffix: str, folder: Path) -> None:
    (folder / f"evil{suffix}").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InvalidArgument, match=r"only \.safetensors"):
        FolderStore(folder).find("evil")


def test_follows_links_but_only_to_plain_files(folder: Path, tmp_path: Path) -> None:
    store = FolderStore(folder)
    (folder / "linked.safetensors").symlink_to(tmp_path / "secret.safetensors")
    assert store.find("linked").size == 6
    (folder / "nowhere.safetensors").symlink_to(tmp_path / "missing")
    os.mkfifo(folder / "pipe.safetensors")
    assert "linked" in store.names()
    for name in ("nowhere", "pipe"):
        assert name not in store.names()
        with pytest.raises(NotFound):
            store.find(name)


def test_a_note_is_what_lies_beside_the_file_if_it_is_a_plain_one(folder: Path, tmp_path: Path) -> None:
    store = FolderStore(folder)
    night = store.find("night")
    (tmp_path / "elsewhere").write_bytes(b"12345")
    (folder / "night.link").symlink_to(tmp_path / "elsewhere")
    assert store.read_note(night, ".link", 4) == b"1234"
    (folder / "night.folder").mkdir()
    os.mkfifo(folder / "night.pipe")
    threads = DaemonThreads(1, "test")  # who opens the pipe never comes back
    for suffix in (".missing", ".folder", ".pipe"):
        assert threads.submit(store.read_note, night, suffix, 4).result(5) is None


def test_folder_that_is_none(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="not a folder"):
        FolderStore(tmp_path / "missing")
    store = FolderStore(folder)
    folder.rename(tmp_path / "unmounted")
    with pytest.raises(Unavailable, match="cannot be listed"):
        store.find("night")
