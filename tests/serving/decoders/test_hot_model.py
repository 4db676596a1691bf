"""The decoder in service, when what is published cannot be loaded."""

from __future__ import annotations

import asyncio
import errno
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from embup_core.artifacts.registry import Registry
from embup_core.errors import ArtifactError, InvalidArtifactError
from serving.decoders.hot_model import HotModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.artifacts.registry import PointerState
    from embup_core.upsampler import Upsampler


class Failing(Registry):
    """Cannot load, at first, for the reasons given."""

    def __init__(self, registry: Registry, causes: list[Exception | None]) -> None:
        super().__init__(registry.root)
        self.causes = causes
        self.loads = 0
        self.looks = 0

    def load(self, version: str | None = None) -> Upsampler:
        self.loads += 1
        if self.causes:
            raise InvalidArtifactError("decoder.safetensors: cannot be read.") from self.causes.pop(0)
        return super().load(version)

    def pointer_state(self) -> PointerState | None:
        self.looks += 1
        return super().pointer_state()


async def watch(model: HotModel, enough: Callable[[], bool]) -> None:
    """Ask for the decoder, which is refused, and look again and again until it is enough."""
    with pytest.raises(ArtifactError):
        await model.reload()
    watching = asyncio.create_task(model.watch(0.01))
    async with asyncio.timeout(30):
        while not enough():
            await asyncio.sleep(0.01)
    watching.cancel()


def test_what_the_disk_did_not_give_is_tried_again(registry: Registry) -> None:
    """No file changes when the disk is back."""
    failing = Failing(registry, [OSError(errno.EIO, "Input/output error"), OSError(errno.EMFILE, "Too many")])
    with ThreadPoolExecutor(1) as executor:
        model = HotModel(failing, executor)
        asyncio.run(watch(model, lambda: model.version is not None))
    assert model.version == registry.current_version()
    assert (model.failure, model.failures) == (None, 2)


@pytest.mark.parametrize("cause", [None, FileNotFoundError(errno.ENOENT, "No such file")])
def test_a_bad_decoder_is_tried_once(registry: Registry, cause: Exception | None) -> None:
    failing = Failing(registry, [cause] * 2)
    with ThreadPoolExecutor(1) as executor:
        model = HotModel(failing, executor)
        asyncio.run(watch(model, lambda: failing.looks > 20))
    assert (model.version, failing.loads, model.failures) == (None, 1, 1)
