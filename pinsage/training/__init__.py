"""Layer 5: one update, the schedule, the loop, and what a resume needs."""
