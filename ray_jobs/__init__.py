"""Layer 7: one command a stage, and the pipeline that runs them all."""

from pinsage.base.interrupts import leave_at_ctrl_c

leave_at_ctrl_c()
