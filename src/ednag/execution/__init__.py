"""Where independent work runs: in this process, in processes of this machine, or on a Ray cluster."""

from ednag.execution.base import Call, Executor, Failure, Outcome, Resources, out_of_memory
from ednag.execution.in_process import InProcess
from ednag.execution.notes import note
from ednag.execution.processes import Processes
from ednag.execution.ray import Ray

__all__ = [
    "Call",
    "Executor",
    "Failure",
    "InProcess",
    "Outcome",
    "Processes",
    "Ray",
    "Resources",
    "note",
    "out_of_memory",
]
