"""Store the values that the board reads in columns, and the documents in their own table.

A board of 24,000 records otherwise reads gigabytes: SQLite reads a whole long text to reach the columns after it.
"""

import json
import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_AT_ONCE = 200
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
    documents = op.create_table(
        "documents",
        sa.Column("record_id", sa.String(16), primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.execute("INSERT INTO documents (record_id, document) SELECT record_id, document FROM results")
    for name, kind in _NEW.items():
        op.add_column("results", sa.Column(name, kind))
    _fill(documents)
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


def _fill(documents: sa.Table) -> None:
    connection = op.get_bind()
    results = sa.table("results", sa.column("record_id"), *map(sa.column, _NEW))
    update = (
        sa.update(results)
        .where(results.c.record_id == sa.bindparam("of"))
        .values({name: sa.bindparam(f"new_{name}") for name in _NEW})
    )
    ids = list(connection.scalars(sa.select(documents.c.record_id)))
    for start in range(0, len(ids), _AT_ONCE):
        some = documents.c.record_id.in_(ids[start : start + _AT_ONCE])
        rows = connection.execute(sa.select(documents).where(some)).all()
        connection.execute(update, [_columns(record_id, json.loads(document)) for record_id, document in rows])


def _columns(record_id: str, record: dict[str, Any]) -> dict[str, object]:
    return {
        "of": record_id,
        "new_valid": record["valid"],
        "new_last_layer": max((layer["index"] for layer in record["layers"]), default=0),
        "new_predictions_file": record["predictions"]["file"],
        "new_predictions_sha256": record["predictions"]["sha256"],
        "new_submission_json": json.dumps(record["submission"]),
        "new_changed": secrets.randbits(40),
    }
