"""When each result was last submitted: a record that was there already becomes the current one again."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. What was never submitted again was submitted when it was made."""
    op.add_column("results", sa.Column("confirmed", sa.DateTime))
    op.execute("UPDATE results SET confirmed = created")
    with op.batch_alter_table("results") as table:
        table.alter_column("confirmed", existing_type=sa.DateTime(), nullable=False)


def downgrade() -> None:
    """Drop the column; the notes beside the record files can fill it again."""
    with op.batch_alter_table("results") as table:
        table.drop_column("confirmed")
