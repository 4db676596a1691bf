"""The root page: which decoder answers, what the batches do, and where to go from here."""

from __future__ import annotations

from html import escape
from string import Template

from litestar import MediaType, get
from litestar.di import NamedDependency

from serving.services import Services

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>embup</title>
<link rel="icon" href="data:,">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .15rem 1.2rem .15rem 0; text-align: left; }
code { background: #8882; padding: 0 .25rem; } :root { color-scheme: light dark; }
</style>
</head>
<body>
<h1>embup</h1>
<p>Turns 32-number projected embeddings back into 1536-number unit vectors.</p>
<h2>State</h2>
<p id="decoder">$decoder</p>
<table><tr><th>batches</th><th></th></tr>$batches</table>
<h2>Where to go</h2>
<ul>
<li><a href="/docs">API: every request, with examples to try</a></li>
<li><a href="/health/ready">Readiness</a>, <a href="/metrics">metrics</a></li>
<li><a href="/v1/models">Published decoders</a>, <a href="/v1/batches">batches</a></li>
</ul>
</body>
</html>
""")


@get("/", media_type=MediaType.HTML, include_in_schema=False)
async def home(services: NamedDependency[Services]) -> str:
    """Show the page."""
    version = services.model.version
    if version is not None:
        decoder = f"Ready. Decoder <code>{escape(version)}</code> answers."
    elif services.model.failure is not None:
        decoder = f"Not ready. {escape(services.model.failure.message)}"
    else:
        decoder = "Not ready: no decoder is published yet. Train one with <code>embup train</code>."
    counts = await services.store.counts()
    batches = "".join(f"<tr><td>{escape(phase)}</td><td>{count}</td></tr>" for phase, count in counts.items())
    return PAGE.substitute(decoder=decoder, batches=batches)
