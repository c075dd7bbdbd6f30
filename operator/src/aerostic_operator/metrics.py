"""What the operator counts; docs/metrics.md tells what is normal."""

from prometheus_client import Counter, Gauge, Histogram

from kit.metrics import SECONDS

objects = Gauge("aerostic_operator_objects", "Objects by the reason of their condition Ready", ["kind", "reason"])
waiting = Gauge("aerostic_operator_waiting", "Objects that wait to be looked at", ["kind"])
reconciled = Counter("aerostic_operator_reconciled_total", "Objects looked at, by outcome", ["kind", "outcome"])
seconds = Histogram("aerostic_operator_reconcile_seconds", "Time to look at an object", ["kind"], buckets=SECONDS)
writes = Counter("aerostic_operator_writes_total", "Writes to the Kubernetes API", ["kind", "what"])
drift = Counter("aerostic_operator_drift_total", "Changes made elsewhere that were found", ["kind", "policy"])
leader = Gauge("aerostic_operator_leader", "1 while this process is the one that acts")
surveyed = Gauge("aerostic_operator_surveyed_seconds", "Moment of the last comparison of all objects", ["kind"])
