"""A service with something to look at: two decoders, and batches of every kind of end."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from embup_core.artifacts.registry import Registry
from embup_core.training.train import train
from tests.conftest import publish_kriging

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from embup_core.sources import SourceFiles

HTML = {"Accept": "text/html,application/xhtml+xml"}
HOSTILE = '<img src=x onerror="alert(1)">&"\''


class Console:
    """A service, and a browser-like client of its pages that runs no script."""

    def __init__(self, service: Any) -> None:
        self.service = service
        self.address = f"http://127.0.0.1:{service.port}"
        self.http = httpx.Client(base_url=self.address, timeout=20, headers=HTML)
        self.batches: dict[str, str] = {}

    def token(self, path: str) -> str:
        """Open a page with a form; give the form's token."""
        found = re.search(r'name="form_token" value="([^"]+)"', self.http.get(path).text)
        assert found is not None
        return unescape(found[1])

    def post(self, path: str, *, on: str, **fields: str) -> httpx.Response:
        """Send a form as the page `on` does."""
        answer = self.http.post(path, data={"form_token": self.token(on), **fields})
        assert isinstance(answer, httpx.Response)
        return answer


@pytest.fixture(scope="session")
def two_decoders(
    tmp_path_factory: pytest.TempPathFactory,
    sample_source: SourceFiles,
    sample_projected: NDArray[np.float32],
    sample_coordinates: NDArray[np.float32],
) -> Registry:
    """A registry with a decoder without scores, and after it one that was scored and has a report."""
    made = Registry(tmp_path_factory.mktemp("two-decoders"))
    publish_kriging(made, sample_projected, sample_coordinates)
    train(str(sample_source.projected.parent), decoder="kriging", registry=made, promote=True)
    return made


@pytest.fixture(scope="session")
def console(
    service_class: Any, two_decoders: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Console]:
    """A console with a complete batch, one with bad rows, and a failed one of a hostile name."""
    service = service_class(two_decoders.root, tmp_path_factory.mktemp("console"))
    found = Console(service)
    good = service.write_input("good.txt", 300)
    lines = service.write_input("mixed.txt", 300).read_text().splitlines()
    lines[150] = lines[250] = HOSTILE  # beyond what is looked at before a batch is accepted
    (service.data / "mixed.txt").write_text("\n".join(lines) + "\n")
    hostile = service.data / "<i>&\"'.txt"
    hostile.write_text("\n".join(lines) + "\n")
    found.batches = {
        "complete": service.submit(good, service.data / "good.npy"),
        "mixed": service.submit("mixed.txt", "mixed.npy", on_bad_row="nan"),
        "failed": service.submit(hostile, service.data / "hostile.npy"),
    }
    for one in found.batches.values():
        service.final(one)
    yield found
    found.http.close()
    assert service.end() == 0, service.log.read_text()
    assert "Traceback" not in service.log.read_text()
