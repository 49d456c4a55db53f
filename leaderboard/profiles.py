"""What a submission costs over the length of a clip, as the board keeps it."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from leaderboard.store import Base, UtcDateTime


class StoredProfile(Base):
    """One profile: the columns that the board selects by, and the whole of it as JSON."""

    __tablename__ = "profiles"

    profile_id: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    submission: Mapped[str] = mapped_column(index=True)
    weights_sha256: Mapped[str] = mapped_column(sa.String(64))
    device: Mapped[str]
    kind: Mapped[str]
    document: Mapped[str] = mapped_column(sa.Text)
