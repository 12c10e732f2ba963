"""`make destroy STAGE=dev`: what `make deploy` made goes, however much of it there is; the table only if told so.

Knows what goes and what stays, and says it before anything is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click import echo as say

from . import deployed, table
from .aws import explained, sign_in
from .chalice_command import run_chalice
from .errors import Differs
from .project import FUNCTIONS, ROOT, Stage


def destroy(stage: Stage, *, drop_table: bool, confirm: Callable[[], object] = lambda: None, root: Path = ROOT) -> None:
    """`confirm` is called once it is said what goes, and before anything does; it raises where the answer is no.

    Raises OpsError, and Differs for a table that is to be dropped and is protected: then nothing has gone.
    """
    account = sign_in()
    with explained():
        dynamodb = account.client("dynamodb")
        found, kept = deployed.find(account, stage), table.find(dynamodb, stage.table)
        say(f"Stage {stage.name} of {stage.app}: account {account.number}, region {account.region}")
        say(f"as {account.caller}.\n")
        dropped = drop_table and kept is not None
        if dropped and kept is not None and kept.get("DeletionProtectionEnabled"):
            raise Differs(
                f"The table {stage.table} is protected against deletion, and nothing was removed. To turn that off: "
                f"aws dynamodb update-table --table-name {stage.table} --no-deletion-protection-enabled"
            )
        _announce(stage, found, kept is not None, dropped)
        if found or dropped:
            confirm()
        if found:
            say("\nchalice delete")
            deployed.remember(found, account, stage, root)
            run_chalice("delete", stage, root)
        for name in FUNCTIONS:
            (root / ".chalice" / stage.policy_file(name)).unlink(missing_ok=True)
        if dropped:
            say(f"Table {stage.table}")
            table.drop(dynamodb, stage.table)
            say("  dropped")
    say("\nDone." if found or dropped else "\nNothing to remove.")


def _announce(stage: Stage, found: deployed.Deployed, has_table: bool, dropped: bool) -> None:
    goes = [
        *(f"function {stage.function(name)}" for name in found.functions),
        *(f"role {stage.function(name)}" for name in found.roles),
        *([f"API {stage.api} ({found.api.id}); its clients are disconnected"] if found.api else []),
        *([f"domain name {found.domain['domain_name']} of API Gateway"] if found.domain else []),
        *([f"table {stage.table}, with all it holds"] if dropped else []),
    ]
    stays = [
        *([f"table {stage.table} (TABLE=drop removes it too)"] if has_table and not dropped else []),
        *(f"log group {name}, whose logs expire by themselves" for name in found.log_groups.values()),
    ]
    for title, lines in (("goes", goes), ("stays", stays)):
        for line in lines:
            say(f"  {title:<7}{line}")
