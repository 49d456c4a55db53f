"""The table of results."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "results",
        sa.Column("record_id", sa.String(16), primary_key=True),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("protocol", sa.String, nullable=False),
        sa.Column("limit", sa.Integer),
        sa.Column("track", sa.String, nullable=False),
        sa.Column("submission", sa.String, nullable=False),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("task", sa.String, nullable=False),
        sa.Column("group", sa.String, nullable=False),
        sa.Column("metric", sa.String, nullable=False),
        sa.Column("split_hash", sa.String(64), nullable=False),
        sa.Column("test", sa.Double, nullable=False),
        sa.Column("test_std", sa.Double, nullable=False),
        sa.Column("ci_low", sa.Double, nullable=False),
        sa.Column("ci_high", sa.Double, nullable=False),
        sa.Column("best_layer", sa.Integer, nullable=False),
        sa.Column("best_layer_name", sa.String, nullable=False),
        sa.Column("parameters", sa.BigInteger, nullable=False),
        sa.Column("vram_bytes", sa.BigInteger),
        sa.Column("vram_reason", sa.String, nullable=False),
        sa.Column("device", sa.String, nullable=False),
        sa.Column("tracking_uri", sa.String),
        sa.Column("experiment_id", sa.String),
        sa.Column("run_id", sa.String),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("ix_results_submission", "results", ["submission"])


def downgrade() -> None:
    """Drop the table; the record files can fill it again."""
    op.drop_table("results")
