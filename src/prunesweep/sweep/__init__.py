"""Many trials at once: composing, planning, sharing, racing, spreading over processes and machines."""
