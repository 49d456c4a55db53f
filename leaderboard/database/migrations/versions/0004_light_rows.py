"""Store the values that the board reads in columns, and the documents in their own table.

A board of 24,000 records otherwise reads gigabytes: SQLite reads a whole long text to reach the columns after it.
"""

import json
import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op

from leaderboard.database.migrate import fill_results

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NEW: dict[str, sa.types.TypeEngine[Any]] = {
    "valid": sa.Double(),
    "last_layer": sa.Integer(),
    "predictions_file": sa.String(),
    "predictions_sha256": sa.String(64),
    "submission_json": sa.Text(),
    "changed": sa.BigInteger(),
}


def upgrade() -> None:
    """Create the table and the columns, and fill both from the documents."""
    op.create_table(
        "documents",
        sa.Column("record_id", sa.String(16), primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.execute("INSERT INTO documents (record_id, document) SELECT record_id, document FROM results")
    for name, kind in _NEW.items():
        op.add_column("results", sa.Column(name, kind))
    fill_results(
        {
            "valid": lambda record: record["valid"],
            "last_layer": lambda record: max((layer["index"] for layer in record["layers"]), default=0),
            "predictions_file": lambda record: record["predictions"]["file"],
            "predictions_sha256": lambda record: record["predictions"]["sha256"],
            "submission_json": lambda record: json.dumps(record["submission"]),
            "changed": lambda _: secrets.randbits(40),
        }
    )
    with op.batch_alter_table("results") as table:
        for name, kind in _NEW.items():
            table.alter_column(name, existing_type=kind, nullable=False)
        table.drop_column("document")
    op.create_index("ix_results_changed", "results", ["changed"])


def downgrade() -> None:
    """Move the documents back into the table of results."""
    op.drop_index("ix_results_changed", "results")
    op.add_column("results", sa.Column("document", sa.Text))
    op.execute(
        "UPDATE results SET document = (SELECT document FROM documents WHERE documents.record_id = results.record_id)"
    )
    with op.batch_alter_table("results") as table:
        table.alter_column("document", existing_type=sa.Text(), nullable=False)
        for name in _NEW:
            table.drop_column(name)
    op.drop_table("documents")
