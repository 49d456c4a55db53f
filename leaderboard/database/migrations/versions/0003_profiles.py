"""The table of profiles: the cost of a submission over clip length."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "profiles",
        sa.Column("profile_id", sa.String(16), primary_key=True),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("submission", sa.String, nullable=False),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("device", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("ix_profiles_submission", "profiles", ["submission"])


def downgrade() -> None:
    """Drop the table; the files of profiles can fill it again."""
    op.drop_table("profiles")
