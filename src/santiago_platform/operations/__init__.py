"""What can be asked for, one file each: open the log entry, authorise, plan, gate, store the desired state."""
