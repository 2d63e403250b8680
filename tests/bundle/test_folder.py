"""A bundle's folder is replaced whole or not at all, and never takes other things with it."""

import errno
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.bundle_parts import contents, make_artifact, parts, raising

from edgecnn.bundle import check_destination, load_bundle, write_bundle
from edgecnn.errors import BundleError


def refuse(directory, message, *, force):
    """Both doors refuse it, and nothing below it changes."""
    before = sorted(Path(directory).rglob("*"))
    for call in (check_destination, lambda path, force: write_bundle(path, **parts(), force=force)):
        with pytest.raises(BundleError, match=message):
            call(directory, force=force)
    assert sorted(Path(directory).rglob("*")) == before


def test_empty_folder_and_bundle_are_replaced(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o750)
    write_bundle(out, **parts())
    write_bundle(out, **parts(name="other"))
    assert load_bundle(out).manifest.name == "other"
    assert out.stat().st_mode & 0o777 == 0o750
    assert list(tmp_path.iterdir()) == [out]


def test_folder_with_other_things_is_refused_unless_forced(tmp_path):
    out = tmp_path / "out"
    (out / "thesis").mkdir(parents=True)
    for number in range(6):
        (out / f"file{number}").touch()
    refuse(out, "(?s)is not a bundle.*file0, file1, file2, file3, file4 and 2 more", force=False)
    write_bundle(out, **parts(), force=True)
    assert not (out / "thesis").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_bundle_with_other_things_is_refused_unless_forced(bundle, kind):
    extra = bundle.directory / "notes.txt"
    if kind == "file":
        extra.touch()
    elif kind == "folder":
        extra = bundle.artifacts[0].path
        extra.unlink()
        extra.mkdir()
    else:
        extra.symlink_to(bundle.artifacts[0].path)
    refuse(bundle.directory, f"(?s)also holds other files.*{extra.name}", force=False)
    write_bundle(bundle.directory, **parts(), force=True)
    assert load_bundle(bundle.directory).artifacts[0].read()


@pytest.mark.parametrize("text", ["{}", '{"schema": 2}', "{"])
def test_folder_with_an_unknown_manifest_is_refused_unless_forced(bundle, text):
    (bundle.directory / "manifest.json").write_text(text)
    refuse(bundle.directory, "a bundle that this edgecnn cannot read", force=False)
    write_bundle(bundle.directory, **parts(), force=True)
    load_bundle(bundle.directory)


@pytest.mark.parametrize("force", [False, True])
def test_files_and_protected_folders_are_never_replaced(tmp_path, monkeypatch, force):
    home, work, repo = tmp_path / "a" / "home", tmp_path / "a" / "work" / "here", tmp_path / "repos" / "repo"
    for made in (home, work, repo / ".git"):
        made.mkdir(parents=True)
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    with pytest.raises(BundleError, match="the root of the file system"):
        check_destination("/", force=force)
    refuse(".", "the current folder", force=force)
    refuse("..", "the current folder", force=force)
    refuse(home, "home folder", force=force)
    monkeypatch.setenv("HOME", str(tmp_path / "a" / "none"))
    monkeypatch.chdir(repo)
    refuse(tmp_path / "repos", "the current folder", force=force)
    monkeypatch.chdir("/")
    refuse(repo, "top folder of a git repository", force=force)
    refuse(repo.parent, "repo is the top folder of a git repository", force=force)
    refuse(tmp_path / "file", "is not a folder", force=force)
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) == str(work))
    refuse(work.parent, "here is a mount point", force=force)


def test_working_folder_that_is_gone_and_unknown_home(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("unknown")))
    (tmp_path / "out").mkdir()
    write_bundle(tmp_path / "out", **parts())
    load_bundle(tmp_path / "out")
    monkeypatch.undo()


def test_links_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("made/later")
    for link in ("link", "dangling"):
        write_bundle(tmp_path / link, **parts())
        assert (tmp_path / link).is_symlink()
        load_bundle(tmp_path / link)
    assert load_bundle(tmp_path / "real").manifest == load_bundle(tmp_path / "made" / "later").manifest


def test_link_loop_is_refused(tmp_path):
    (tmp_path / "out").symlink_to("out")
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "out", **parts())


def test_missing_parents_are_made(tmp_path):
    write_bundle(tmp_path / "a" / "b" / "out", **parts())
    load_bundle(tmp_path / "a" / "b" / "out")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"(?s)not enough disk space.*bytes are free, [\d,]+ are needed.*nothing was",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "(?s)not enough disk space.*quota"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError(errno.EROFS, "Read-only file system"), "no permission"),
        (OSError(errno.EBUSY, "Device or resource busy"), "mount point"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "another run is writing it"),
        (OSError(errno.EXDEV, "Invalid cross-device link"), "container image"),
        (KeyboardInterrupt(), None),
        (BundleError("another"), "another"),
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        "pathlib.Path.write_bytes",
        "os.fsync",
        "edgecnn.bundle.whole_folder._put_in_place",
        "edgecnn.bundle.whole_folder._exchange",
    ],
)
@pytest.mark.parametrize("existing", [True, False])
def test_failure_changes_nothing(tmp_path, monkeypatch, existing, place, error, message):
    out = tmp_path / "a" / "b" / "out"
    if existing:
        write_bundle(out, **parts())
    elif place.endswith("exchange"):
        out.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(place, raising(error))
        with pytest.raises((BundleError, KeyboardInterrupt), match=message):
            write_bundle(out, **parts(name="other"))
    assert sorted(tmp_path.rglob("*")) == before
    if existing:
        assert load_bundle(out).manifest.name == "net"


def test_long_names_and_files_on_the_way_are_explained(tmp_path):
    (tmp_path / "file").touch()
    for directory, message in ((tmp_path / ("n" * 250), "name is too long"), (tmp_path / "file" / "out", "is a file")):
        with pytest.raises(BundleError, match=message):
            write_bundle(directory, **parts())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_folder_without_permission(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(BundleError, match=r"(?s)no permission.*nothing was changed"):
        check_destination(tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_parent_without_permission(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(BundleError, match="no permission") as caught:
        write_bundle(tmp_path / "closed" / "out", **parts())
    assert caught.value.where == str(tmp_path / "closed")


@contextmanager
def small_disk(place):
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32k", "edgecnn-test", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"a tiny disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_full_disk_for_real(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        write_bundle(disk / "out", **parts())
        before = contents(disk / "out")
        big = [make_artifact("net.fp32.onnx", "onnx", os.urandom(40_000))]
        for out in ("out", "a/new"):
            with pytest.raises(
                BundleError, match=r"(?s)not enough disk space.*[\d,]+ bytes are free, 4\d,\d{3} are needed"
            ):
                write_bundle(disk / out, **parts(artifacts=big))
        assert [path.name for path in disk.iterdir()] == ["out"]
        assert contents(disk / "out") == before


def test_mount_point_for_real(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        refuse(disk, "is a mount point", force=True)
        refuse(tmp_path, "disk is a mount point", force=True)
