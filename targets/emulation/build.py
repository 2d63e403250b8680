"""Emulated boards: built into the cache, found there, removed from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec

from edgecnn.errors import TargetError, UsageError
from edgecnn.targets.boards import Board, BoardEnvironment, Emulation
from edgecnn.targets.emulation import cache as store
from edgecnn.targets.emulation.board_wheels import requirements_of, unpack_wheels
from edgecnn.targets.emulation.command import PREFIX
from edgecnn.targets.emulation.host_programs import emulation_problems, require
from edgecnn.targets.emulation.plugin import build_plugin
from edgecnn.targets.emulation.prefix import make_prefix
from edgecnn.targets.emulation.trial import try_board
from edgecnn.targets.emulation.userland import unpack_userland
from edgecnn.types import Progress

RECORD = "built.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A board that is ready to run.

    Attributes:
        board: The board.
        folder: The board's folder.
        prefix: The folder that QEMU takes for the board's ``/``; it links to the userland and the sites.
        root: The userland, for programs that mount folders instead.
        sites: Unpacked wheels by environment.
        packages: File names of the Debian packages in the userland.
        plugin: The counting plugin; None if there was no compiler.
        fresh: Whether anything had to be built.
        seconds: How long building took.
    """

    board: Board
    folder: Path
    prefix: Path
    root: Path
    sites: Mapping[str, Path]
    packages: tuple[str, ...]
    plugin: Path | None
    fresh: bool
    seconds: float


class _Record(msgspec.Struct, kw_only=True):
    """Names of the folders that a built board shares with others: removal reads them to know what is still in use."""

    root: str
    sites: list[str]


@dataclass(frozen=True, slots=True)
class _Places:
    """The folders of a board's parts in the cache; each name contains the digest of the recipe that made the part."""

    cache: Path
    board: Path
    root: Path
    sites: tuple[Path, ...]

    @classmethod
    def of(cls, board: Board, cache: Path | None) -> _Places:
        folder, recipe = store.cache_folder(cache), emulation_of(board)
        root_key = store.key(board.architecture, recipe.suite, recipe.packages, recipe.links)
        root = folder / "roots" / f"{board.architecture}-{root_key}"
        sites = tuple(folder / "sites" / _site_name(board, recipe, e) for e in recipe.environments)
        whole = store.key(msgspec.to_builtins(board), root.name, [site.name for site in sites])
        return cls(folder, folder / "boards" / f"{board.name}-{whole}", root, sites)

    def by_environment(self, board: Board) -> dict[str, Path]:
        """Return the sites by their environments' names."""
        return dict(zip(board.environments, self.sites, strict=True))

    @property
    def lock(self) -> Path:
        """The lock file: shared by all that build, exclusive for the removal of parts that boards share."""
        return self.cache / ".lock"


def emulation_of(board: Board) -> Emulation:
    """Return how a board is emulated.

    Raises:
        UsageError: The board is not an emulated one.
    """
    if board.emulation is None:
        raise UsageError(f"{board.name} is {board.title}: there is nothing to emulate")
    return board.emulation


def board_folder(board: Board, cache: Path | None = None) -> Path:
    """Return the folder of a board that has been built from its present recipe.

    Raises:
        UsageError: The board is not an emulated one.
    """
    return _Places.of(board, cache).board


def is_built(board: Board, cache: Path | None = None) -> bool:
    """Return whether a board has been built from its present recipe."""
    if board.emulation is None:
        return False
    places = _Places.of(board, cache)
    return all(folder.is_dir() for folder in (places.board, places.root, *places.sites))


def build_board(board: Board, *, cache: Path | None = None, progress: Progress | None = None) -> Built:
    """Build an emulated board, or those parts of it that are missing.

    Args:
        board: The board.
        cache: The folder for boards; by default ``$EDGECNN_CACHE``, or the user's cache folder.
        progress: Called before each step.

    Raises:
        UsageError: The board is not an emulated one.
        TargetError: A program is missing on this machine, or downloading or unpacking failed.
    """
    recipe, places, begun = emulation_of(board), _Places.of(board, cache), time.monotonic()
    if not is_built(board, cache):
        require(emulation_problems(board), f"cannot build {board.name}")
    steps = _Steps(progress, 4 + len(places.sites))
    with store.locked(places.lock, shared=True):
        steps.next(f"Debian {recipe.suite} for {board.architecture}")
        fresh = store.ensure(places.root, lambda folder: unpack_userland(board.architecture, recipe, folder))
        for environment, site in zip(recipe.environments, places.sites, strict=True):
            steps.next(f"wheels{' of ' if environment.name else ''}{environment.name}")
            fresh |= store.ensure(site, _wheels(board, recipe, environment))
        steps.next("the counting plugin")
        plugin = build_plugin(places.cache)
        steps.next(f"{board.name}'s own files, and a first start")
        fresh |= store.ensure(places.board, lambda folder: _make_board(board, places, folder))
    steps.next(f"{board.name} is ready")
    return Built(
        board=board,
        folder=places.board,
        prefix=places.board / PREFIX,
        root=places.root,
        sites=MappingProxyType(places.by_environment(board)),
        packages=tuple((places.root / ".packages").read_text().split()),
        plugin=plugin,
        fresh=fresh,
        seconds=time.monotonic() - begun,
    )


def remove_board(board: Board, cache: Path | None = None) -> bool:
    """Remove a board, and the parts that no other board shares, from the cache; return whether there was one.

    Raises:
        TargetError: The board cannot be removed.
    """
    emulation_of(board)
    folder = store.cache_folder(cache)
    if not folder.is_dir():
        return False
    try:
        with store.locked(folder / ".lock"):
            # Boards of earlier recipes too. The digest has no dash, so the pattern matches no other board's name.
            mine = [f for f in (folder / "boards").glob(f"{board.name}-*") if f.name.rpartition("-")[0] == board.name]
            for built in mine:
                store.remove_tree(built)
            _prune(folder)
    except OSError as error:
        raise TargetError(
            f"{board.name} cannot be removed: {error.strerror or error}", where=str(error.filename or folder)
        ) from error
    return bool(mine)


def _prune(folder: Path) -> None:
    """Remove shared parts that no board's record names."""
    used = set()
    for file in (folder / "boards").glob(f"*/{RECORD}"):
        record = msgspec.json.decode(file.read_bytes(), type=_Record)
        used |= {record.root, *record.sites}
    for part in [*(folder / "roots").glob("[!.]*"), *(folder / "sites").glob("[!.]*")]:
        if part.name not in used:
            store.remove_tree(part)
    if not used:
        store.remove_tree(folder / "plugins")


class _Steps:
    """Counts steps for a progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total - 1, 0

    def next(self, text: str) -> None:
        if self._progress is not None:
            self._progress(text, self._done, self._total)
        self._done += 1


def _site_name(board: Board, recipe: Emulation, environment: BoardEnvironment) -> str:
    rows = requirements_of(environment.wheels)
    return f"{board.architecture}-{store.key(recipe.python, rows)}"


def _wheels(board: Board, recipe: Emulation, environment: BoardEnvironment) -> Callable[[Path], None]:
    return lambda folder: unpack_wheels(board.architecture, recipe.python, environment.wheels, folder)


def _make_board(board: Board, places: _Places, folder: Path) -> None:
    make_prefix(board, places.root, places.by_environment(board), folder / PREFIX, places.board / PREFIX)
    record = _Record(root=places.root.name, sites=[site.name for site in places.sites])
    (folder / RECORD).write_bytes(msgspec.json.encode(record))
    try_board(board, folder)
