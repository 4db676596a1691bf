"""The root page: which decoder answers, what the batches do, and where to go from here."""

from __future__ import annotations

from html import escape
from string import Template

from litestar import MediaType, get
from litestar.di import NamedDependency

from serving.access import OPEN
from serving.page import page
from serving.services import Services

CONTENT = Template("""\
<p>Turns 32-number projected embeddings back into 1536-number unit vectors.</p>
<h2>State</h2>
<p id="decoder">$decoder</p>
$refused<table><tr><th>batches</th><th></th></tr>$batches</table>
<h2>Where to go</h2>
$keys<ul>
<li><a href="/docs">API: every request, with examples to try</a></li>
<li><a href="/health/ready">Readiness</a>$metrics</li>
<li><a href="$models">Published decoders</a>, <a href="$list">batches</a></li>
</ul>""")

# A link carries no key, so these lead to where one can be given.
KEYS = """<p>This service asks for an API key: the button <em>Authorize</em> of the API page takes one.</p>
"""
ASKED_WITH_KEY = {
    "models": "/docs#/models/listModels",
    "list": "/docs#/batches/listBatches",
    "metrics": ", <code>/metrics</code> with a key",
}
ASKED = {"models": "/v1/models", "list": "/v1/batches", "metrics": ', <a href="/metrics">metrics</a>'}


@get("/", media_type=MediaType.HTML, include_in_schema=False, opt={"access": OPEN})
async def home(services: NamedDependency[Services]) -> str:
    """Show the page."""
    version, failure, settings = services.model.version, services.model.failure, services.settings
    refused = ""
    if version is not None:
        decoder = f"Ready. Decoder <code>{escape(version)}</code> answers."
        if failure is not None:
            why = escape(services.public(failure.message))
            refused = f'<p id="refused">The latest one was refused: {why}</p>\n'
    elif failure is not None:
        decoder = f"Not ready. {escape(services.public(failure.message))}"
    else:
        decoder = "Not ready: no decoder is published yet. Train one with <code>embup train</code>."
    counts = await services.store.counts()
    batches = "".join(f"<tr><td>{escape(phase)}</td><td>{count}</td></tr>" for phase, count in counts.items())
    keyed = settings.api_keys_file is not None or bool(settings.api_keys)
    asked = ASKED_WITH_KEY if keyed else ASKED
    content = CONTENT.substitute(
        asked if settings.metrics else asked | {"metrics": ""},
        decoder=decoder,
        refused=refused,
        batches=batches,
        keys=KEYS if keyed else "",
    )
    return page("embup", content)
