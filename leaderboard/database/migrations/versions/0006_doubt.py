"""Add the layers that cannot be told apart from the best one, and the flags of a result."""

import sqlalchemy as sa
from alembic import op

from leaderboard.database.migrate import fill_results

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_FLAGS = ("lr-at-lower-edge", "lr-at-upper-edge", "undertrained", "few-validation-recordings")


def upgrade() -> None:
    """Add the columns, and fill them from the records."""
    op.add_column("results", sa.Column("layers_alike", sa.String))
    op.add_column("results", sa.Column("flags", sa.String))
    fill_results(
        {
            # Records of older versions have no selection.
            "layers_alike": lambda record: (
                "; ".join(map(str, record["selection"]["alike"])) if record.get("selection") else None
            ),
            "flags": lambda record: "; ".join(flag for flag in _FLAGS if flag in record["flags"]),
        }
    )


def downgrade() -> None:
    """Drop the columns."""
    with op.batch_alter_table("results") as table:
        table.drop_column("layers_alike")
        table.drop_column("flags")
