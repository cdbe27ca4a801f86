"""The command group `cloud`. What a command needs is imported when it is called, not before."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cloud.command import (
    NO,
    WRONG_INPUT,
    ConfigFile,
    Database,
    Output,
    Shown,
    answering,
    connected,
    print_rows,
    settings_of,
)
from cloud.letters.cli import app as letters_app

app = typer.Typer(
    name="cloud",
    help="Frames into the database, the story of every item out of it.",
    no_args_is_help=True,
    add_completion=False,
)
agents_app = typer.Typer(help="The agents that may send.", no_args_is_help=True)
app.add_typer(agents_app, name="agents")
app.add_typer(letters_app, name="dead-letters")
tokens_app = typer.Typer(help="Who may ask the API.", no_args_is_help=True)
app.add_typer(tokens_app, name="token")


@app.command()
def migrate(
    database: Database = None,
    config: ConfigFile = None,
    storage: Annotated[
        str | None, typer.Option(help="auto, timescale or plain; of a new database only.")
    ] = None,
    compress_after: Annotated[
        str | None, typer.Option(help="Age at which samples are compressed: 7d, or off.")
    ] = None,
    keep_samples: Annotated[
        str | None, typer.Option(help="Age at which samples are deleted: 400d, or off.")
    ] = None,
) -> None:
    """Bring the database up to this version. Safe to run again."""
    from cloud import migrate as migrations
    from cloud.storage import PLAIN_NOTICE, Storage

    settings = settings_of(
        config,
        database=database,
        storage=storage,
        compress_after=compress_after,
        keep_samples=keep_samples,
    )
    now = datetime.now(UTC)  # noqa: TID251 - the command line is where time comes in
    with connected(settings, "migrate") as connection:
        done = migrations.migrate(connection, settings.storage, settings.policy, now)
    for migration in done.applied:
        typer.echo(f"applied {migration}")
    typer.echo(f"{len(done.applied)} migrations applied, storage {done.storage}")
    if done.storage is Storage.PLAIN:
        typer.echo(PLAIN_NOTICE, err=True)


@app.command()
def ingest(  # noqa: PLR0913, PLR0917 - options
    database: Database = None,
    config: ConfigFile = None,
    source: Annotated[
        str | None, typer.Option(help="Where frames come from: mqtt (the broker) or kafka.")
    ] = None,
    mqtt_host: Annotated[str | None, typer.Option(help="The broker.")] = None,
    mqtt_port: Annotated[int | None, typer.Option(help="Its port.")] = None,
    kafka_bootstrap: Annotated[
        str | None, typer.Option(help="Kafka's servers: host:port, several with commas.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of /metrics and /health; 0: any.")
    ] = None,
) -> None:
    """Take frames into the database and answer them, until told to stop."""
    import asyncio

    from cloud.running import run_ingest

    settings = settings_of(
        config,
        database=database,
        mqtt_host=mqtt_host,
        mqtt_port=mqtt_port,
        source=source,
        kafka_bootstrap=kafka_bootstrap,
        metrics_port=metrics_port,
    )
    asyncio.run(run_ingest(settings))


@app.command()
def compact(
    database: Database = None,
    config: ConfigFile = None,
    ledger_keep: Annotated[
        str | None, typer.Option(help="Frames younger than that stay: 14d.")
    ] = None,
    output: Shown = Output.TABLE,
) -> None:
    """Do now what ingest does every ten minutes: keep of old frames only what must be known."""
    import asyncio
    import json
    from dataclasses import asdict

    from cloud.compactor import compact_all

    settings = settings_of(config, database=database, ledger_keep=ledger_keep)
    if settings.ledger_keep is None:
        raise typer.BadParameter("ledger_keep is off: say how old a frame must be")
    with answering():
        done = asyncio.run(compact_all(settings.dsn, settings.ledger_keep, lambda _: None))
    if done is None:
        typer.echo("another process is compacting", err=True)
        raise typer.Exit(NO)
    if output is Output.JSON:
        typer.echo(json.dumps(asdict(done)))
        return
    typer.echo(f"{done.frames} frames of {done.lanes} lanes compacted")
    if done.busy:
        typer.echo(f"{done.busy} lanes were in use and wait for the next time")


@app.command()
def restored(database: Database = None, config: ConfigFile = None) -> None:
    """Say that a backup was brought back into this database: agents send again what they hold."""
    from cloud.restoring import note_restored

    settings = settings_of(config, database=database)
    with connected(settings, "restored") as connection:
        done = note_restored(connection)
    typer.echo(f"This store was {done.before} and is {done.after}.")
    typer.echo(f"{done.ended} connections of ingest were ended; they come back by themselves.")
    typer.echo("Agents will send again what is still in their spools.")


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="JSON lines, or YAML (.yaml, .yml).")],
    database: Database = None,
    config: ConfigFile = None,
    output: Shown = Output.TABLE,
) -> None:
    """Take masters and events from a file; every line is answered. Safe to run again."""
    import asyncio

    from cloud.clock import Clock
    from cloud.loading import Report, load_file

    settings = settings_of(config, database=database)
    report = Report(typer.echo, lambda text: typer.echo(text, err=True))
    heard = report.take_as_json if output is Output.JSON else report.take
    with answering():
        asyncio.run(load_file(settings.dsn, file, Clock(), heard))
    if output is Output.TABLE:
        report.sum_up()
    if report.refused:
        raise typer.Exit(WRONG_INPUT)


@app.command()
def rebuild(
    database: Database = None, config: ConfigFile = None, output: Shown = Output.TABLE
) -> None:
    """Make the trace view again from all events, beside the one in use, and put it in its place."""
    import asyncio
    import json
    from dataclasses import asdict

    from cloud.rebuild import rebuild as make_again

    settings = settings_of(config, database=database)

    def tell(taken: int, waiting: int) -> None:
        typer.echo(f"{taken} events taken in, {waiting} waiting", err=True)

    with answering():
        done = asyncio.run(make_again(settings.dsn, tell))
    if output is Output.JSON:
        typer.echo(json.dumps(asdict(done), indent=2))
        return
    typer.echo(f"{done.events} events, {done.skipped} left out")
    for one in done.differences:
        typer.echo(f"{one.table}: {one.former} rows only before, {one.new} only now")
    if not done.differences:
        typer.echo("the view is the same as before")


@agents_app.command("add")
def agents_add(
    agent: Annotated[str, typer.Argument(help="site.name, as in its certificate.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="Stations that it may speak of: L1/** (may be given again)."),
    ] = None,
    database: Database = None,
    config: ConfigFile = None,
) -> None:
    """Let an agent in, or give a known one another scope."""
    from cloud import agents

    settings = settings_of(config, database=database)
    with connected(settings, "agents") as connection:
        is_new = agents.add(connection, agent, scope or [])
    typer.echo(f"{agent} {'added' if is_new else 'changed'}, scope {' '.join(scope or [])}")


@agents_app.command("list")
def agents_list(
    database: Database = None, config: ConfigFile = None, output: Shown = Output.TABLE
) -> None:
    """Who may send, and how they stand."""
    from cloud import agents

    settings = settings_of(config, database=database)
    with connected(settings, "agents") as connection:
        rows = agents.agents(connection)
    columns = ("name", "scope", "identity", "version", "hello_at", "set_aside_reason")
    print_rows(rows, columns, output)


@agents_app.command("release")
def agents_release(
    agent: Annotated[str, typer.Argument(help="An agent that was set aside.")],
    database: Database = None,
    config: ConfigFile = None,
) -> None:
    """Let an agent go on that was set aside."""
    from cloud import agents

    settings = settings_of(config, database=database)
    with connected(settings, "agents") as connection:
        done = agents.release(connection, agent)
    typer.echo(f"{agent} goes on" if done else f"{agent} is not set aside", err=not done)
    if not done:
        raise typer.Exit(NO)


@app.command()
def api(
    database: Database = None,
    config: ConfigFile = None,
    api_host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    api_port: Annotated[int | None, typer.Option("--port", help="Its port; 0: any.")] = None,
) -> None:
    """Answer the trace API, and show its page, until told to stop."""
    from cloud.api.serving import serve

    settings = settings_of(config, database=database, api_host=api_host, api_port=api_port)
    serve(settings)


@tokens_app.command("create")
def token_create(
    name: Annotated[str, typer.Argument(help="Who holds it: a person or a program.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, write (may be given again).")
    ] = None,
    site: Annotated[
        list[str] | None, typer.Option(help="Only these sites (may be given again).")
    ] = None,
    expires: Annotated[str, typer.Option(help="How long it works: 90d, 12h, or off.")] = "365d",
    database: Database = None,
    config: ConfigFile = None,
) -> None:
    """Make a token. It is shown this once and stored as a hash."""
    from cloud import tokens
    from cloud.settings import read_duration

    scopes = tokens.read_scopes(scope or [])
    lifetime = read_duration("--expires", expires)
    settings = settings_of(config, database=database)
    with connected(settings, "token") as connection:
        secret = tokens.create_token(connection, name, scopes, sites=site, lifetime=lifetime)
    if secret is None:
        typer.echo(f"{name} has a token that works; revoke it first or choose a name", err=True)
        raise typer.Exit(NO)
    typer.echo(secret)


@tokens_app.command("list")
def token_list(
    database: Database = None, config: ConfigFile = None, output: Shown = Output.TABLE
) -> None:
    """Who may ask what, where and until when; never the tokens themselves."""
    from cloud import tokens

    settings = settings_of(config, database=database)
    with connected(settings, "token") as connection:
        rows = tokens.list_tokens(connection)
    print_rows(rows, ("name", "scopes", "sites", "made_at", "expires_at", "revoked_at"), output)


@tokens_app.command("revoke")
def token_revoke(
    name: Annotated[str, typer.Argument(help="Whose token.")],
    database: Database = None,
    config: ConfigFile = None,
) -> None:
    """End a token; the next request with it is refused."""
    from cloud import tokens

    settings = settings_of(config, database=database)
    with connected(settings, "token") as connection:
        done = tokens.revoke_token(connection, name)
    typer.echo(f"{name} may ask no more" if done else f"{name} has no token", err=not done)
    if not done:
        raise typer.Exit(NO)
