"""Takes OpenTelemetry spans over HTTP and forgets them, as a collector beside the service would.

python -m benchmarks.service.span_sink PORT_FILE
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Sink(BaseHTTPRequestHandler):
    """Answers 200 to whatever is posted."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read and forget."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Listen on a free port until killed."""
    server = HTTPServer(("127.0.0.1", 0), Sink)
    port_file = Path(sys.argv[1])
    new = port_file.with_suffix(".new")
    new.write_text(str(server.server_port))
    new.replace(port_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
