"""Layer 7: recommendations over HTTP."""

from pinsage.base.interrupts import leave_at_ctrl_c

leave_at_ctrl_c()
