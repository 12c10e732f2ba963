"""`python -m ops deploy|destroy|package|verify`: what the Makefile's targets of these names execute."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .errors import ConfigError, OpsError
from .project import load_stage

INTERRUPTED = 130
"""What shells make of SIGINT."""


@click.group()
def cli() -> None:
    """Deploys Channels to AWS, takes it away, packages it, and verifies what is deployed."""


@cli.command()
@click.argument("stage")
def deploy(stage: str) -> None:
    """Create or update STAGE, and print its URL."""
    from .deploy import deploy as run  # noqa: PLC0415  each command loads what it needs

    run(load_stage(stage))


@cli.command()
@click.argument("stage")
@click.option("--table", type=click.Choice(["keep", "drop"]), default="keep", help="What becomes of the table.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(stage: str, table: str, yes: bool) -> None:
    """Remove STAGE, after asking."""
    from .destroy import destroy as run  # noqa: PLC0415

    def confirm() -> None:
        if yes:
            return
        if not sys.stdin.isatty():
            raise ConfigError(
                f"Nobody can be asked here, and nothing was removed: `make destroy STAGE={stage} YES=1` does not ask."
            )
        if click.prompt(f"\nType the stage's name, {stage}, to go on", default="", show_default=False) != stage:
            raise ConfigError("That is not the stage's name: nothing was removed.")

    run(load_stage(stage), drop_table=table == "drop", confirm=confirm)


@cli.command()
@click.argument("stage")
@click.argument("out")
def package(stage: str, out: str) -> None:
    """Write the CloudFormation template and the zip of STAGE into the folder OUT."""
    folder = Path(_given(out, "package STAGE=prod OUT=folder"))
    from . import package as packaging  # noqa: PLC0415

    packaging.package(load_stage(stage), folder)
    packaging.tell_what_next(load_stage(stage), folder)


@cli.command()
@click.argument("url")
@click.option("--any-host", is_flag=True, help="Also where URL is not this machine.")
def verify(url: str, any_host: bool) -> int:
    """Hold the project's own conversations with what is served at URL."""
    address = _given(url, "verify URL=wss://…")
    from .verify import verify as run  # noqa: PLC0415

    return int(not run(address, any_host=any_host))


def _given(value: str, example: str) -> str:
    """make passes a variable that is not set as an empty string."""
    if not value:
        raise ConfigError(f"Something is missing: `make {example}`.")
    return value


def main() -> int:
    try:
        return cli.main(prog_name="python -m ops", standalone_mode=False) or 0
    except click.Abort:
        click.echo(
            "Stopped. What was done until now stays done; the same command, run again, goes on from there.", err=True
        )
        return INTERRUPTED
    except click.ClickException as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except OpsError as error:
        click.echo(str(error), err=True)
        return 1
    except OSError as error:
        click.echo(f"{error.filename}: {error.strerror}." if error.filename else str(error), err=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
