"""The control API under /_emulator: create numbers and customers, play the customer, inject faults, look inside."""
