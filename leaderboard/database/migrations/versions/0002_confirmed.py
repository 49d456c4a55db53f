"""Add the time when each result was last submitted, so that an existing record can become the current one again."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Its first value is the time when the record was made."""
    op.add_column("results", sa.Column("confirmed", sa.DateTime))
    op.execute("UPDATE results SET confirmed = created")
    with op.batch_alter_table("results") as table:
        table.alter_column("confirmed", existing_type=sa.DateTime(), nullable=False)


def downgrade() -> None:
    """Drop the column; the notes beside the record files can fill it again."""
    with op.batch_alter_table("results") as table:
        table.drop_column("confirmed")
