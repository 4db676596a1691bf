"""What the pages of the service that people read have in common."""

from __future__ import annotations

from html import escape
from string import Template

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:,">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .15rem 1.2rem .15rem 0; text-align: left; }
code { background: #8882; padding: 0 .25rem; } :root { color-scheme: light dark; }
</style>
</head>
<body>
<h1>$title</h1>
$content
</body>
</html>
""")


def page(title: str, content: str) -> str:
    """Give a page of a title, as text, and a content, as HTML."""
    return _PAGE.substitute(title=escape(title), content=content)
