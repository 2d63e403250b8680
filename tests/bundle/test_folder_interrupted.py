"""What interrupts the writing of a bundle: other runs, file systems that lack something, Ctrl-C and SIGKILL."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.bundle_parts import leftovers, parts, raising
from support.paths import TESTS

from edgecnn.bundle import Bundle, load_bundle, whole_folder, write_bundle
from edgecnn.errors import BundleError


def test_what_was_replaced_and_cannot_be_removed_is_told(bundle, monkeypatch):
    monkeypatch.setattr("shutil.rmtree", raising(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(
        BundleError, match=r"(?s)is complete, but the folder that it replaced may be left.*Permission"
    ) as caught:
        write_bundle(bundle.directory, **parts(name="other"))
    monkeypatch.undo()
    assert load_bundle(bundle.directory).manifest.name == "other"
    assert load_bundle(caught.value.where).manifest.name == "net"
    write_bundle(bundle.directory, **parts())
    assert leftovers(bundle.directory) == []


def test_another_run_that_is_faster_is_replaced(tmp_path, monkeypatch):
    out, rename = tmp_path / "out", Path.rename

    def late(path, target):
        if not out.exists():
            monkeypatch.setattr(Path, "rename", rename)
            write_bundle(out, **parts(name="faster"))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    write_bundle(out, **parts())
    assert load_bundle(out).manifest.name == "net"
    assert leftovers(out) == []


def test_file_that_appears_meanwhile_is_not_lost(tmp_path, monkeypatch, bundle):
    monkeypatch.setattr(whole_folder, "_sync_tree", lambda path: (bundle.directory / "thesis.tex").touch())
    with pytest.raises(BundleError, match=r"thesis\.tex"):
        write_bundle(bundle.directory, **parts())
    assert (bundle.directory / "thesis.tex").exists()


def test_folders_of_live_runs_are_not_swept(tmp_path):
    out = tmp_path / "out"
    alive, lock = whole_folder._make_locked(out)
    dead = tmp_path / ".out.edgecnn-00000000"
    dead.mkdir()
    (dead / "half").touch()
    (tmp_path / ".out.edgecnn-mine").mkdir()
    (tmp_path / ".other.edgecnn-00000000").mkdir()
    write_bundle(out, **parts())
    os.close(lock)
    assert sorted(leftovers(out)) == sorted([alive.name, ".out.edgecnn-mine", ".other.edgecnn-00000000"])
    write_bundle(out, **parts())
    assert not alive.exists()


def test_name_that_a_sweeper_took_is_given_up(tmp_path, monkeypatch):
    lock, calls = whole_folder._lock, []

    def taken(path, *, required):
        calls.append(path)
        if len(calls) == 1:
            path.rmdir()
        if len(calls) == 2:
            raise BlockingIOError
        return lock(path, required=required)

    monkeypatch.setattr(whole_folder, "_lock", taken)
    path, descriptor = whole_folder._make_locked(tmp_path / "out")
    os.close(descriptor)
    assert path == calls[2]


def test_file_system_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", raising(OSError(errno.ENOLCK, "No locks available")))
    left = tmp_path / ".out.edgecnn-00000000"
    left.mkdir()
    write_bundle(tmp_path / "out", **parts())
    load_bundle(tmp_path / "out")
    assert left.exists()


def test_file_system_without_exchange(bundle, monkeypatch):
    monkeypatch.setattr(whole_folder, "_exchange", lambda first, second: False)
    write_bundle(bundle.directory, **parts(name="other"))
    assert load_bundle(bundle.directory).manifest.name == "other"
    assert leftovers(bundle.directory) == []


def test_second_rename_that_fails_is_undone(bundle, monkeypatch):
    rename = Path.rename

    def fail(path, target):
        if target == bundle.directory and path.suffix != ".old":
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(whole_folder, "_exchange", lambda first, second: False)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(BundleError, match="Input/output"):
        write_bundle(bundle.directory, **parts(name="other"))
    assert load_bundle(bundle.directory).manifest.name == "net"
    assert leftovers(bundle.directory) == []


def test_exchange_is_in_use_here(tmp_path):
    """Where the file system of the tests can exchange, the fallback must not be what they prove."""
    for name in "ab":
        (tmp_path / name / name).mkdir(parents=True)
    if not whole_folder._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange two folders")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()
    with pytest.raises(FileNotFoundError):
        whole_folder._exchange(tmp_path / "a", tmp_path / "none")


# In a process of its own, every line of the code that replaces a folder is once the last one before SIGKILL.
KILLED_AT_EVERY_LINE = textwrap.dedent("""
    import json, os, pathlib, shutil, signal, sys
    from support.bundle_parts import leftovers, parts
    from edgecnn.bundle import check_destination, load_bundle, whole_folder, write_bundle
    from edgecnn.errors import BundleError

    out, how, existing = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "existing"
    os.fsync = lambda descriptor: None  # a kill loses nothing that was written; only a power cut does
    if how == "two renames":
        whole_folder._exchange = lambda first, second: False

    def kill_at(line):
        count = 0
        def trace(frame, event, argument):
            nonlocal count
            code = frame.f_code
            if code.co_filename not in (whole_folder.__file__, shutil.__file__) and code.co_name != "_write_files":
                return None
            if event == "line":
                count += 1
                if count == line:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace
        sys.settrace(trace)

    def killed(line, new):
        child = os.fork()
        if not child:
            kill_at(line)
            write_bundle(out, **new)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert status in (0, signal.SIGKILL), status
        return status == signal.SIGKILL

    def read_all():
        bundle = load_bundle(out)
        bundle.golden(), [artifact.read() for artifact in bundle.artifacts]
        return bundle.manifest.name

    def bring_back():
        try:
            raise SystemExit(load_bundle(out))
        except BundleError as err:
            assert "was killed" in str(err), err
        check_destination(out)
        assert read_all() == old["name"]

    old, new = parts(name="a"), parts(name="b")
    if existing:
        write_bundle(out, **old)
    seen, line = {"old": 0, "new": 0, "none": 0, "left": 0}, 1
    while killed(line, new):
        seen["left"] += bool(leftovers(out))
        if out.exists():
            seen["new" if read_all() == new["name"] else "old"] += 1
        else:
            seen["none"] += 1
            if existing:
                bring_back()
        write_bundle(out, **new)
        assert read_all() == new["name"]
        assert leftovers(out) == [], (line, leftovers(out))
        old, new, line = new, old, line + 1
        if not existing:
            shutil.rmtree(out)
    print(json.dumps(seen))
""")


@pytest.mark.parametrize("existing", ["existing", "absent"])
@pytest.mark.parametrize("how", ["exchange", "two renames"])
def test_kill_at_every_line_leaves_the_old_or_the_new(tmp_path, how, existing):
    if how == "exchange":
        test_exchange_is_in_use_here(tmp_path)
    root = TESTS
    result = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_LINE, str(tmp_path / "out"), how, existing],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["new"] > 0
    assert seen["left"] > 0
    assert seen["old"] > 0 or existing == "absent"
    assert (seen["none"] > 0) == (existing == "absent" or how == "two renames")


def test_ctrl_c_for_real(tmp_path, bundle):
    """The child tells when it is in the middle of writing, and is then interrupted as a terminal does it."""
    script = textwrap.dedent("""
        import pathlib, signal, sys
        from support.bundle_parts import parts
        from edgecnn.bundle import write_bundle
        def write(path, data):
            print("writing", flush=True)
            signal.pause()
        pathlib.Path.write_bytes = write
        signal.signal(signal.SIGINT, signal.default_int_handler)
        write_bundle(sys.argv[1], **parts(name="new"))
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(bundle.directory)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "writing\n"
    child.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in child.communicate()[1]
    assert isinstance(load_bundle(bundle.directory), Bundle)
    assert load_bundle(bundle.directory).manifest.name == "net"
    assert leftovers(bundle.directory) == []
