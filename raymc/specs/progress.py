"""What long work says of itself while it runs."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told by the runtime, shown by whoever runs the sweep. All calls come from the driver's threads."""

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """A stage begins: `total` things (of which `done` are there already); `name` is a plural, such as minima."""
        ...

    def advance(self, ok: bool = True) -> None:
        """One thing of the stage is finished, or has failed for good."""
        ...

    def step(self, name: str, step: int, steps: int, loss: float) -> None:
        """A running trial reached a step."""
        ...

    def say(self, message: str) -> None:
        """One line that a person should see: a retry, a failure, an artefact set aside."""
        ...


class Silent:
    """Shows nothing."""

    def stage(self, name: str, total: int, done: int = 0) -> None: ...

    def advance(self, ok: bool = True) -> None: ...

    def step(self, name: str, step: int, steps: int, loss: float) -> None: ...

    def say(self, message: str) -> None: ...
