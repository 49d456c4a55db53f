"""The home directory with all state, and three addresses that can place its databases elsewhere."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The paths and addresses of one installation. Creating a `Home` writes nothing to disk.

    Attributes:
        root: the home directory (``BEANS_HOME``, default ``./.beans``), absolute.
        database_url: SQLAlchemy address of the leaderboard (``BEANS_DATABASE_URL``).
        tracking_uri: MLflow's tracking address (``MLFLOW_TRACKING_URI``).
        optuna_storage: Optuna's storage address (``OPTUNA_STORAGE``).
    """

    root: Path
    database_url: str
    tracking_uri: str
    optuna_storage: str

    @classmethod
    def at(cls, root: Path) -> "Home":
        """Return the home below ``root`` with its own SQLite files. Environment variables are ignored."""
        root = root.expanduser().resolve()
        return cls(
            root=root,
            database_url=f"sqlite:///{root / 'beans.db'}",
            tracking_uri=f"sqlite:///{root / 'mlflow.db'}",
            optuna_storage=f"sqlite:///{root / 'optuna.db'}",
        )

    @classmethod
    def from_environment(cls) -> "Home":
        """Return the home that the environment variables name. They are read at this call, not at import."""
        default = cls.at(Path(os.environ.get("BEANS_HOME") or ".beans"))
        return cls(
            root=default.root,
            database_url=os.environ.get("BEANS_DATABASE_URL") or default.database_url,
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or default.tracking_uri,
            optuna_storage=os.environ.get("OPTUNA_STORAGE") or default.optuna_storage,
        )

    @classmethod
    def of(cls, place: "Home | Path | str | None") -> "Home":
        """Return the home that an argument names: a `Home` unchanged, a path by `at`, None by `from_environment`."""
        if place is None:
            return cls.from_environment()
        return place if isinstance(place, Home) else cls.at(Path(place))

    @property
    def data(self) -> Path:
        """Prepared audio of catalogue tasks, one directory per task."""
        return self.root / "data"

    @property
    def features(self) -> Path:
        """Cached features, one directory per key. Deleting them is safe: they are computed again."""
        return self.root / "features"

    @property
    def profiles(self) -> Path:
        """Measurements of `beans profile`, one file per profile."""
        return self.root / "profiles"

    @property
    def records(self) -> Path:
        """Records (JSON) and their predictions. The board can be rebuilt from these alone."""
        return self.root / "records"

    @property
    def artifacts(self) -> Path:
        """The directory in which a local MLflow stores figures and files."""
        return self.root / "mlartifacts"

    @property
    def locks(self) -> Path:
        """Lock files that keep two processes from doing the same work at once."""
        return self.root / "locks"
