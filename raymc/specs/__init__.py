"""Layer 0: frozen pydantic nouns, their keys, and YAML with file:line:column. No torch, ray or mlflow."""
