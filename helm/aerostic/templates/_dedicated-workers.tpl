{{/* The ConfigMap with the templates of dedicated tenants' workers; empty where the installation runs none. */}}
{{- define "aerostic.dedicatedWorkers" -}}
{{- if and .Values.operator.enabled .Values.operator.dedicatedWorkers.enabled -}}
{{ include "aerostic.fullname" . }}-dedicated-workers
{{- end -}}
{{- end }}

{{/* Workers of a tenant: name → the process that they are, with one difference: whom they work for. */}}
{{- define "aerostic.tenantWorkers" -}}
{{- if include "aerostic.dedicatedWorkers" . -}}
inbox: messaging-inbox
sender: messaging-sender
{{- end -}}
{{- end }}

{{/* Facts of all pods that there may be, by component: processes, and the workers of tenants. */}}
{{- define "aerostic.components" -}}
{{- $components := include "aerostic.processes" . | fromYaml -}}
{{- range $worker, $process := include "aerostic.tenantWorkers" . | fromYaml -}}
{{- $_ := set $components (printf "tenant-%s" $worker) (set (deepCopy (get $components $process)) "isOfTenant" true) -}}
{{- end -}}
{{- toYaml $components -}}
{{- end }}

{{/*
One kind of worker as the operator reads it, JSON: (list $ worker process). The operator puts values for ${…}, leaves out
what a size needs not, and owns the objects. Names are short: KEDA's own, with a slug of 40 characters, are the longest.
*/}}
{{- define "aerostic.workerTemplate" -}}
{{- $root := index . 0 }}{{ $worker := index . 1 }}{{ $process := index . 2 }}
{{- $values := get $root.Values.processes $process }}
{{- $size := get $root.Values.operator.dedicatedWorkers $worker }}
{{- $about := dict "root" $root "process" $process "facts" (get (include "aerostic.processes" $root | fromYaml) $process)
    "component" (printf "tenant-%s" $worker) "name" (printf "tenant-${tenant.slug}-%s" $worker)
    "labels" (dict "aerostic.io/tenant" "${tenant.slug}") "partitionsOf" "${tenant.id}-"
    "min" "${replicas.min}" "max" "${replicas.max}" "replicas" "${replicas.min}" "resources" $size.resources
    "env" (list (dict "name" "AEROSTIC_MESSAGING_TENANT" "value" "${tenant.id}")) }}
{{- $kinds := list "aerostic.deployment" "aerostic.podDisruptionBudget" }}
{{- if dig "keda" "enabled" false $values }}{{ $kinds = append $kinds "aerostic.scaledObject" }}
{{- else if dig "autoscaling" "enabled" false $values }}{{ $kinds = append $kinds "aerostic.horizontalPodAutoscaler" }}{{ end }}
{{- $objects := list }}
{{- range $kinds }}
{{- $object := include . $about | fromYaml }}
{{- $_ := set $object.metadata.labels "app.kubernetes.io/managed-by" "aerostic-operator" }}
{{- if eq $object.kind "Deployment" }}
{{- $_ := set $object.spec.template.metadata.labels "app.kubernetes.io/managed-by" "aerostic-operator" }}
{{- end }}
{{- $objects = append $objects $object }}
{{- end }}
{{- dict "worker" $worker "replicas" (pick $size "min" "max") "objects" $objects | toPrettyJson }}
{{- end }}
