"""Layer 7: one command a stage, and the pipeline that runs them all."""
