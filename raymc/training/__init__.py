"""Layer 3: pre-training and fine-tuning one minimum, in plain torch."""
