"""The command group `gateway`. What a command needs is imported when it is called, not before."""

import os
from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gateway.checking import Line
    from gateway.settings import GatewaySettings

app = typer.Typer(
    name="gateway",
    help="Frames from the broker into Kafka, receipts back.",
    no_args_is_help=True,
    add_completion=False,
)
topics_app = typer.Typer(help="The topics in Kafka.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")

NO = 1


class Output(StrEnum):
    """How a command prints its data."""

    TABLE = "table"
    JSON = "json"


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="A YAML file of settings (or THREADLINE_GATEWAY_CONFIG)."),
]
MqttHost = Annotated[str | None, typer.Option(help="The broker.")]
MqttPort = Annotated[int | None, typer.Option(help="Its port.")]
Bootstrap = Annotated[str | None, typer.Option(help="Kafka: host:port, several with commas.")]
KafkaGroup = Annotated[
    str | None,
    typer.Option(help="One name for all gateways of this broker, another for each broker."),
]
Shown = Annotated[Output, typer.Option(help="How to print.")]


@app.command()
def run(
    config: ConfigFile = None,
    mqtt_host: MqttHost = None,
    mqtt_port: MqttPort = None,
    kafka_bootstrap: Bootstrap = None,
    kafka_group: KafkaGroup = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of /metrics and /health; 0: any.")
    ] = None,
) -> None:
    """Carry frames into Kafka and receipts to the agents, until told to stop."""
    import asyncio

    from gateway.running import run_gateway

    settings = _settings(
        config,
        mqtt_host=mqtt_host,
        mqtt_port=mqtt_port,
        kafka_bootstrap=kafka_bootstrap,
        kafka_group=kafka_group,
        metrics_port=metrics_port,
    )
    asyncio.run(run_gateway(settings))


@app.command()
def check(
    config: ConfigFile = None,
    mqtt_host: MqttHost = None,
    mqtt_port: MqttPort = None,
    kafka_bootstrap: Bootstrap = None,
    kafka_group: KafkaGroup = None,
    output: Shown = Output.TABLE,
) -> None:
    """Look at broker, Kafka and topics once; say what is wrong and what to do. Code 1: faults."""
    import asyncio

    from gateway.checking import check as look

    settings = _settings(
        config,
        mqtt_host=mqtt_host,
        mqtt_port=mqtt_port,
        kafka_bootstrap=kafka_bootstrap,
        kafka_group=kafka_group,
    )
    lines = asyncio.run(look(settings))
    _report(lines, output)


@app.command()
def status(
    config: ConfigFile = None,
    metrics_host: Annotated[str | None, typer.Option(help="Where it serves /health.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Its port there.")] = None,
    output: Shown = Output.TABLE,
) -> None:
    """How a running gateway stands. Code 1: not healthy, or not there."""
    from gateway.asking import ask

    settings = _settings(config, needed=(), metrics_host=metrics_host, metrics_port=metrics_port)
    told = ask(settings.metrics_host, settings.metrics_port)
    _print([told], ("state", "healthy", "reason", "last_write_at", "waiting_messages"), output)
    if not told.healthy:
        raise typer.Exit(NO)


@topics_app.command("create")
def topics_create(
    config: ConfigFile = None,
    kafka_bootstrap: Bootstrap = None,
    partitions: Annotated[int, typer.Option(min=1, max=10_000, help="Of each topic.")] = 12,
    replication: Annotated[
        int | None, typer.Option(min=1, help="Copies; 3, or as many as there are brokers.")
    ] = None,
    output: Shown = Output.TABLE,
) -> None:
    """Make the topics that are missing; those that are there are not touched. Safe to run again."""
    import asyncio

    from gateway.checking import create_topics

    settings = _settings(config, needed=("kafka_bootstrap",), kafka_bootstrap=kafka_bootstrap)
    lines = asyncio.run(create_topics(settings.kafka, partitions, replication))
    _report(lines, output)


def _report(lines: Sequence["Line"], output: Output) -> None:
    _print(lines, ("state", "part", "what", "remedy"), output)
    if any(line.is_fault for line in lines):
        raise typer.Exit(NO)


def _print(rows: Sequence[Any], columns: Sequence[str], output: Output) -> None:
    from protocols.printing import json_of, table_of

    if output is Output.JSON:
        typer.echo(json_of(rows))
    else:
        table_of(rows, columns, box=None)


def _settings(
    config: Path | None, *, needed: Collection[str] | None = None, **options: Any
) -> "GatewaySettings":
    """What a command runs with; `needed`: without which it cannot. ConfigError: all mistakes."""
    from gateway.settings import NEEDED, read_settings

    return read_settings(options, os.environ, config, NEEDED if needed is None else needed)
