"""The table of failures: why a cell of the board is empty."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "failures",
        sa.Column("failure_id", sa.String(16), primary_key=True),
        sa.Column("submission", sa.String, nullable=False),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("task", sa.String, nullable=False),
        sa.Column("track", sa.String, nullable=False),
        sa.Column("protocol", sa.String, nullable=False),
        sa.Column("limit", sa.Integer),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop the table; submitting again fills it."""
    op.drop_table("failures")
