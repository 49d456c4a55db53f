"""Profiles in the database: their table, and functions that write and read them."""

from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, mapped_column

from leaderboard.database.store import Base, Store, UtcDateTime
from leaderboard.records.profile import Profile, profile_paths, read_profile


class StoredProfile(Base):
    """One profile: the columns that queries use, and the complete profile as JSON."""

    __tablename__ = "profiles"

    profile_id: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    submission: Mapped[str] = mapped_column(index=True)
    weights_sha256: Mapped[str] = mapped_column(sa.String(64))
    device: Mapped[str]
    kind: Mapped[str]
    document: Mapped[str] = mapped_column(sa.Text)


def publish(store: Store, profile: Profile) -> None:
    """Write a profile to the database. A profile with the same id is replaced unless it is newer.

    Raises:
        UserError: the database cannot be used.
    """
    with store.transaction() as connection:
        _upsert(connection, profile)


def profiles(store: Store, submission: str | None = None) -> list[Profile]:
    """Every profile in the database, of one submission or of all, oldest first.

    Raises:
        UserError: the database cannot be used.
    """
    query = sa.select(StoredProfile.document)
    if submission is not None:
        query = query.where(StoredProfile.submission == submission)
    with store.transaction() as connection:
        documents = connection.scalars(query.order_by(StoredProfile.created, StoredProfile.profile_id)).all()
    return [Profile.model_validate_json(document) for document in documents]


def version(store: Store) -> tuple[object, ...]:
    """A value that changes whenever a profile is written or deleted."""
    size = sa.func.coalesce(sa.func.sum(sa.func.length(StoredProfile.document)), 0)
    query = sa.select(sa.func.count(), sa.func.max(StoredProfile.created), size)
    with store.transaction() as connection:
        return tuple(connection.execute(query).one())


def rebuild(store: Store, directory: Path) -> int:
    """Replace all profiles in the database by the files in ``directory``, in one transaction.

    A missing directory counts as empty.

    Returns:
        The number of profiles in the database.

    Raises:
        UserError: a file is no profile, or the database cannot be used; then the database does not change.
    """
    on_disk = [read_profile(path) for path in profile_paths(directory)]
    with store.transaction() as connection:
        connection.execute(sa.delete(StoredProfile))
        for profile in on_disk:
            _upsert(connection, profile)
    return len({profile.id for profile in on_disk})


def _upsert(connection: sa.Connection, profile: Profile) -> None:
    values = {
        "profile_id": profile.id,
        "created": profile.created,
        "submission": profile.submission,
        "weights_sha256": profile.weights_sha256,
        "device": profile.device,
        "kind": profile.kind,
        "document": profile.model_dump_json(),
    }
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(StoredProfile).values(values)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[StoredProfile.profile_id],
            set_={name: statement.excluded[name] for name in values},
            where=StoredProfile.created <= statement.excluded.created,
        )
    )
