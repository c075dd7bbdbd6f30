{{/*
What scales and protects a process's Deployment: (dict "root" $ "process" name "facts" facts "component" component
"name" name "min" min "max" max), and of a tenant's own workers "partitionsOf", which stands before a partition's number,
and "labels" that select its pods too.
*/}}
{{- define "aerostic.horizontalPodAutoscaler" -}}
{{- $process := get .root.Values.processes .process -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "aerostic.metadata" (list .root .name .component) | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .name | quote }}}
  minReplicas: {{ .min }}
  maxReplicas: {{ .max }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ $process.autoscaling.cpuPercent }}}
  behavior:
    # Leases and connections move with every pod: go down slowly.
    scaleDown: {stabilizationWindowSeconds: 300}
{{- end }}

{{- define "aerostic.scaledObject" -}}
{{- $root := .root }}{{ $facts := .facts }}{{ $of := default "" .partitionsOf }}
{{- $process := get $root.Values.processes .process }}
{{- $names := include "aerostic.fullname" $root }}
{{- $settings := include "aerostic.settings" (list $root .process $facts) | fromYaml }}
{{- $consumers := list }}
{{- if eq $facts.stream "META" }}
{{- range $partition := until (int (default "1" $settings.AEROSTIC_META_PARTITIONS)) }}
{{- $consumers = append $consumers (printf "inbox-%s%d" $of $partition) }}
{{- end }}
{{- else }}
{{- range $partition := until (int (default "8" $settings.AEROSTIC_SEND_PARTITIONS)) }}
{{- $consumers = append $consumers (printf "sender-live-%s%d" $of $partition) }}
{{- $consumers = append $consumers (printf "sender-bulk-%s%d" $of $partition) }}
{{- end }}
{{- end }}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "aerostic.metadata" (list .root .name .component) | nindent 2 }}
spec:
  scaleTargetRef: {name: {{ .name | quote }}}
  minReplicaCount: {{ .min }}
  maxReplicaCount: {{ .max }}
  cooldownPeriod: 300
  advanced:
    # One target for the lag of all partitions together: each of them alone would ask for processes of its own.
    scalingModifiers:
      formula: {{ range $number, $_ := $consumers }}{{ if $number }} + {{ end }}p{{ $number }}{{ end }}
      target: {{ $process.keda.lagPerReplica | quote }}
      metricType: AverageValue
  triggers:
    # The address of the peers: in a cluster KEDA looks for <server>.<address> to find a consumer's leader.
    {{- range $number, $consumer := $consumers }}
    - type: nats-jetstream
      name: p{{ $number }}
      metadata:
        natsServerMonitoringEndpoint: {{ default (printf "%s-nats-peers.%s.svc:8222" $names $root.Release.Namespace) $root.Values.nats.external.monitoringEndpoint }}
        account: {{ $root.Values.nats.account }}
        stream: {{ $facts.stream }}
        consumer: {{ $consumer }}
        lagThreshold: {{ $process.keda.lagPerReplica | quote }}
    {{- end }}
    {{- if eq $facts.stream "SEND" }}
    # Senders take commands sooner than they send them (ADR 0027): what they are short of is CPU.
    - type: cpu
      metricType: Utilization
      metadata: {value: "70"}
    {{- end }}
{{- end }}

{{- define "aerostic.podDisruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "aerostic.metadata" (list .root .name .component) | nindent 2 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "aerostic.selector" (list .root .component) | nindent 6 }}
      {{- with .labels }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end }}
