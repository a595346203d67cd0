"""Layer 2: backbones, tuning methods, datasets, metrics. The only room that knows transformers, peft and datasets."""
