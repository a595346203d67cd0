"""All names inside a storage, in one place.

STORAGE/minima/KEY/            a minimum: Hugging Face or PEFT folder, minimum.json, training.jsonl, MANIFEST.json
STORAGE/backbones/KEY/         a backbone that raymc pre-trained, likewise
STORAGE/evaluations/KEY/A.json one endpoint on one split; KEY says how it was scored
STORAGE/profiles/KEY/A-B.json  one pair along one curve on one split; KEY says how
STORAGE/evaluations/KEY/STAMP-ID.jsonl  many of them in one file, as of profiles; see raymc.store.batches
STORAGE/rows/KEY/...-HASH.parquet  losses and predictions row by row, of an evaluation (A) or a profile (A-B)
STORAGE/curves/KEY/            a fitted curve: curve.safetensors, curve.json, training.jsonl, MANIFEST.json
STORAGE/planes/KEY/A-B-C-N.json one line of the grid of a plane through three minima
STORAGE/precisions/KEY/N.json  what precision a part of a matrix is computed in, measured or for one sweep
STORAGE/calibrations/KEY/N.json  how fast a machine scores pairs of such a network, by a short measured run
STORAGE/sweeps/NAME/           minima.parquet, profiles.parquet, barriers.parquet, spec.json
STORAGE/checkpoints/KEY/       a training in progress
STORAGE/claims/                who computes what at this moment
STORAGE/set-aside/             what failed its hash, kept for a look
STORAGE/storage.json           which storage this is, wherever it is mounted; see raymc.store.identity
STORAGE/mlflow.db, mlartifacts/  the default tracking store

In object storage folders with a manifest lie differently, and each machine has a mirror; see raymc.store.mirror.
"""

MINIMA = "minima"
BACKBONES = "backbones"
EVALUATIONS = "evaluations"
PROFILES = "profiles"
ROWS = "rows"
CURVES = "curves"
PLANES = "planes"
PRECISIONS = "precisions"
CALIBRATIONS = "calibrations"
SWEEPS = "sweeps"
CHECKPOINTS = "checkpoints"
SET_ASIDE = "set-aside"
TEMPORARY = ".tmp"
LOCKS = ".locks"  # of a mirror
MANIFESTS = "manifests"  # of object storage

MANIFEST = "MANIFEST.json"
PROVENANCE = "minimum.json"
TRAINING_CURVE = "training.jsonl"
CURVE = "curve.json"

_HASH = 12  # digits of a SHA-256 in a name


def rows_file(name: str, sha256: str) -> str:
    """The name of a file of rows: two that were computed apart don't meet. Early versions left the hash out."""
    return f"{name}-{sha256[:_HASH]}.parquet"


def is_named_by(file: str, sha256: str) -> bool:
    """Whether a content of this hash is what a file's name says, as far as it says so."""
    return file.endswith(f"-{sha256[:_HASH]}.parquet")
