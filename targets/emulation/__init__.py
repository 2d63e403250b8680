"""Emulated boards: a userland, wheels and a board's own files, run by qemu-user. No root, no container."""

from edgecnn.targets.emulation.build import Built, board_folder, build_board, is_built, remove_board
from edgecnn.targets.emulation.count import InstructionCounts, count_instructions
from edgecnn.targets.emulation.host_programs import Problem, emulation_problems

__all__ = [
    "Built",
    "InstructionCounts",
    "Problem",
    "board_folder",
    "build_board",
    "count_instructions",
    "emulation_problems",
    "is_built",
    "remove_board",
]
