"""`embup notify`: messages to chat, mail, pagers and webhooks, from the shell."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from embup.cli import options
from embup.cli.failures import FAILED
from embup.cli.output import print_table, say
from embup_core.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Send messages to the addresses of a file, and try them out.")

NotifyFile = Annotated[
    Path | None,
    typer.Option(
        "--notify-file",
        envvar="EMBUP_NOTIFY_FILE",
        show_default=False,
        help="File of addresses, one apprise URL a line, which only its owner may read.",
    ),
]


@app.command("test")
def send_test(*, notify_file: NotifyFile = None, data: options.Data = options.DATA) -> None:
    """Send a test message to every address, and say which took it.

    The exit code is 1 where one did not.
    """
    from pipelines.notifications import Kind, Message, Notifier

    notifier = Notifier(_required(notify_file), data)
    message = Message(Kind.test, "test", "embup: a test message", "Messages of embup reach this address.")
    delivery = notifier.send(message, again=True)
    failed = delivery.failed or {}
    names = [address.name for address in notifier.addresses()]
    print_table(("address", "result"), [(name, failed.get(name, "sent")) for name in names])
    if failed or not names:
        raise typer.Exit(FAILED)


@app.command("send")
def send(
    title: Annotated[str, typer.Argument(help="First line.")],
    body: Annotated[str, typer.Argument(help="Text; - reads it from standard input.")] = "",
    *,
    key: Annotated[
        str,
        typer.Option("--key", help="What it is about. A second message of the same key is not sent."),
    ],
    notify_file: NotifyFile = None,
    data: options.Data = options.DATA,
) -> None:
    """Send one message about the service, for scripts and probes.

    The exit code is 1 where an address did not take it. Dagster tries it again, as do the same command and
    `embup notify retry`.
    """
    from pipelines.notifications import Kind, Message, Notifier

    text = sys.stdin.read() if body == "-" else body
    delivery = Notifier(_required(notify_file), data).send(Message(Kind.service, key, title, text))
    say(str(delivery))
    if delivery.failed:
        raise typer.Exit(FAILED)


@app.command("retry")
def retry(*, notify_file: NotifyFile = None, data: options.Data = options.DATA) -> None:
    """Send the messages that an address did not take, the oldest first.

    Dagster does so by itself, at intervals that grow. The exit code is 1 where a message still waits.
    """
    from pipelines.notifications import Notifier

    found = Notifier(_required(notify_file), data).send_waiting()
    print_table(("message", "result"), [(key, str(delivery)) for key, delivery in found.items()])
    if any(delivery.waits for delivery in found.values()):
        raise typer.Exit(FAILED)


def _required(file: Path | None) -> Path:
    if file is None:
        raise InputError(
            "Expected a file of addresses, found none.",
            remedy="Name it with --notify-file or EMBUP_NOTIFY_FILE; it has one apprise URL a line.",
        )
    return file
