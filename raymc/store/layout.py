"""All names inside a storage, in one place.

STORAGE/minima/KEY/            a minimum: Hugging Face or PEFT folder, minimum.json, training.jsonl, MANIFEST.json
STORAGE/backbones/KEY/         a backbone that raymc pre-trained, likewise
STORAGE/evaluations/KEY/A.json one endpoint on one split; KEY says how it was scored
STORAGE/profiles/KEY/A-B.json  one pair along one curve on one split; KEY says how
STORAGE/sweeps/NAME/           minima.parquet, profiles.parquet, barriers.parquet, spec.json
STORAGE/checkpoints/KEY/       a training in progress
STORAGE/set-aside/             what failed its hash, kept for a look
STORAGE/mlflow.db, mlartifacts/  the default tracking store
"""

MINIMA = "minima"
BACKBONES = "backbones"
EVALUATIONS = "evaluations"
PROFILES = "profiles"
SWEEPS = "sweeps"
CHECKPOINTS = "checkpoints"
SET_ASIDE = "set-aside"
TEMPORARY = ".tmp"

MANIFEST = "MANIFEST.json"
PROVENANCE = "minimum.json"
TRAINING_CURVE = "training.jsonl"
