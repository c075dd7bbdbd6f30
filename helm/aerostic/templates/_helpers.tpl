{{- define "aerostic.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}{{- end -}}
{{- end }}

{{/* Call with (list $ "component"). */}}
{{- define "aerostic.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: aerostic
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "aerostic.labels" -}}
{{- $root := index . 0 -}}
{{ include "aerostic.selector" . }}
app.kubernetes.io/part-of: aerostic
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* metadata of an object: (list $ name component) */}}
{{- define "aerostic.metadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "aerostic.labels" (list $root (index . 2)) | nindent 2 }}
{{- end }}

{{/* (list $ room) */}}
{{- define "aerostic.image" -}}
{{- $root := index . 0 -}}
{{- $image := $root.Values.image -}}
{{- $digest := index (default dict $image.digests) (index . 1) -}}
{{- printf "%s/%s" (trimSuffix "/" $image.repository) (index . 1) -}}
{{- if $digest -}}@{{ $digest }}{{- else -}}:{{ default $root.Chart.AppVersion $image.tag }}{{- end -}}
{{- end }}

{{- define "aerostic.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "aerostic.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Which Secret holds an entry: (list $ entry). What a person brings goes before what is generated. */}}
{{- define "aerostic.secretOf" -}}
{{- $root := index . 0 -}}{{- $entry := index . 1 -}}{{- $values := $root.Values -}}
{{- if and (hasPrefix "AEROSTIC_META_" $entry) $values.meta.existingSecret -}}{{ $values.meta.existingSecret }}
{{- else if and (eq $entry "AEROSTIC_NATS_URL") (not $values.nats.enabled) -}}{{ $values.nats.external.existingSecret }}
{{- else if and (hasSuffix "DATABASE_URL" $entry) (eq (include "aerostic.databases" $root) "existing") -}}
{{ $values.postgresql.external.existingSecret }}
{{- else -}}{{ include "aerostic.ownSecret" $root }}{{- end -}}
{{- end }}

{{- define "aerostic.ownSecret" -}}
{{- default (printf "%s-secrets" (include "aerostic.fullname" .)) .Values.secrets.existingSecret -}}
{{- end }}

{{/* How the databases come: existing (all URLs given), external (roles are made on a given server), cloudnativepg, trial */}}
{{- define "aerostic.databases" -}}
{{- if ne .Values.postgresql.mode "external" -}}{{ .Values.postgresql.mode }}
{{- else if .Values.postgresql.external.existingSecret -}}existing
{{- else -}}external{{- end -}}
{{- end }}

{{- define "aerostic.postgresHost" -}}
{{- $name := printf "%s-postgresql" (include "aerostic.fullname" .) -}}
{{- if eq .Values.postgresql.mode "external" -}}{{ .Values.postgresql.external.host }}
{{- else if eq .Values.postgresql.mode "cloudnativepg" -}}{{ $name }}-rw
{{- else -}}{{ $name }}{{- end -}}
{{- end }}

{{/* Secret and key of the superuser's password: YAML */}}
{{- define "aerostic.superuser" -}}
{{- $mode := include "aerostic.databases" . -}}
{{- if eq $mode "external" -}}
{name: {{ .Values.postgresql.external.superuserSecret.name }}, key: {{ .Values.postgresql.external.superuserSecret.key }}, user: {{ .Values.postgresql.external.superuser }}}
{{- else if eq $mode "cloudnativepg" -}}
{name: {{ include "aerostic.fullname" . }}-postgresql-superuser, key: password, user: postgres}
{{- else -}}
{name: {{ include "aerostic.ownSecret" . }}, key: AEROSTIC_POSTGRES_PASSWORD, user: postgres}
{{- end -}}
{{- end }}

{{/* Settings of one process as one map, name → text: (list $ name facts). Later wins: chart, global, its own. */}}
{{- define "aerostic.settings" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}{{- $facts := index . 2 -}}{{- $values := $root.Values -}}
{{- $all := dict -}}
{{- if not $facts.hasOwnSettingsOnly -}}
{{- $_ := set $all "AEROSTIC_ENVIRONMENT" "production" -}}
{{- if and $values.nats.enabled (gt (int $values.nats.replicas) 1) -}}
{{- $_ := set $all "AEROSTIC_STREAM_REPLICAS" (toString (min 5 (int $values.nats.replicas))) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $all (printf "%sHOST" $facts.prefix) "0.0.0.0" -}}
{{- range $setting, $port := $facts.portSettings -}}{{- $_ := set $all $setting (toString $port) -}}{{- end -}}
{{- if $facts.isOperator -}}
{{- $_ := set $all "AEROSTIC_OPERATOR_NAMESPACE" $root.Release.Namespace -}}
{{- $_ := set $all "AEROSTIC_OPERATOR_INVITATIONS_NAMESPACE" (default $root.Release.Namespace $values.operator.invitationsNamespace) -}}
{{- if include "aerostic.dedicatedWorkers" $root -}}
{{- $_ := set $all "AEROSTIC_OPERATOR_WORKERS_FOLDER" "/etc/aerostic/workers" -}}
{{- end -}}
{{- end -}}
{{- with $facts.appId -}}{{- $_ := set $all . (default "" $values.meta.appId) -}}{{- end -}}
{{- with $facts.graph -}}
{{- if $values.emulator.enabled -}}
{{- $_ := set $all . (printf "http://%s-meta-emulator:8090" (include "aerostic.fullname" $root)) -}}
{{- end -}}
{{- end -}}
{{- $processes := include "aerostic.facts" $root | fromYaml -}}
{{- range $setting, $target := $facts.targets -}}
{{- $port := default (get $processes $target).http (get $processes $target).grpc -}}
{{- $address := printf "%s-%s:%v" (include "aerostic.fullname" $root) $target $port -}}
{{- if eq $setting "AEROSTIC_EMULATOR_CALLBACK_URL" -}}{{- $address = printf "http://%s/webhooks/meta" $address -}}
{{- else if hasSuffix "_URL" $setting -}}{{- $address = printf "http://%s" $address -}}{{- end -}}
{{- $_ := set $all $setting $address -}}
{{- end -}}
{{- if not $facts.hasOwnSettingsOnly -}}
{{- range $setting, $value := $values.settings -}}{{- $_ := set $all $setting (include "aerostic.text" $value) -}}{{- end -}}
{{- end -}}
{{- range $setting, $value := (get $values.processes $name).settings -}}
{{- $_ := set $all $setting (include "aerostic.text" $value) -}}
{{- end -}}
{{- toYaml $all -}}
{{- end }}

{{/* Large numbers without an exponent, lists as JSON, as settings are written. */}}
{{- define "aerostic.text" -}}
{{- if kindIs "float64" . -}}{{- if eq . (floor .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- else if kindIs "slice" . -}}{{ toJson . }}
{{- else -}}{{ . }}{{- end -}}
{{- end }}

{{/* env of a process's containers: (list $ name facts) */}}
{{- define "aerostic.env" -}}
{{- $root := index . 0 -}}{{- $facts := index . 2 -}}
{{- range $setting, $value := include "aerostic.settings" . | fromYaml }}
- name: {{ $setting }}
  value: {{ $value | quote }}
{{- end }}
{{- range $setting, $entry := $facts.secrets }}
- name: {{ $setting }}
  valueFrom:
    secretKeyRef:
      name: {{ include "aerostic.secretOf" (list $root $entry) }}
      key: {{ $entry }}
{{- end }}
{{- end }}

{{/* Mistakes that a schema cannot see. */}}
{{- define "aerostic.validate" -}}
{{- $values := .Values -}}{{- $mode := include "aerostic.databases" . -}}
{{- if and (eq $mode "external") (not (and $values.postgresql.external.host $values.postgresql.external.superuserSecret.name)) -}}
{{- fail "postgresql: give external.existingSecret with the URLs of the databases, or external.host with external.superuserSecret to have roles made there, or choose mode cloudnativepg or trial." -}}
{{- end -}}
{{- if and (not $values.nats.enabled) (not $values.nats.external.existingSecret) -}}
{{- fail "nats: without nats.enabled, nats.external.existingSecret must name a Secret with the entry AEROSTIC_NATS_URL." -}}
{{- end -}}
{{- if and $values.nats.enabled (has (int $values.nats.replicas) (list 2 4)) -}}
{{- fail "nats.replicas: a cluster needs a majority, so 1, 3 or 5." -}}
{{- end -}}
{{- if and (not $values.emulator.enabled) (not $values.meta.existingSecret) -}}
{{- fail "meta.existingSecret must name a Secret with AEROSTIC_META_APP_SECRET and AEROSTIC_META_VERIFY_TOKEN of your Meta app (or enable the emulator to try the product)." -}}
{{- end -}}
{{- if and (eq $mode "cloudnativepg") (not (.Capabilities.APIVersions.Has "postgresql.cnpg.io/v1")) $values.postgresql.cloudnativepg.requireOperator -}}
{{- fail "postgresql.mode is cloudnativepg, and this cluster does not serve postgresql.cnpg.io/v1: install the CloudNativePG operator first." -}}
{{- end -}}
{{- if and (ne $mode "existing") $values.migrations.hook -}}
{{- fail "migrations.hook: hooks run before the Secret and the database of this release exist; it needs postgresql.external.existingSecret." -}}
{{- end -}}
{{- if and (include "aerostic.dedicatedWorkers" .) (hasPrefix "tenant-" (include "aerostic.fullname" .)) -}}
{{- fail "the release's name begins with tenant-, as the objects of dedicated tenants' workers do: set fullnameOverride." -}}
{{- end -}}
{{- range $worker := list "inbox" "sender" -}}
{{- $size := get $values.operator.dedicatedWorkers $worker -}}
{{- if gt (int $size.min) (int $size.max) -}}{{- fail (printf "operator.dedicatedWorkers.%s: min is greater than max." $worker) -}}{{- end -}}
{{- end -}}
{{- if and $values.ingress.enabled (not $values.ingress.host) -}}{{- fail "ingress.host is empty." -}}{{- end -}}
{{- if and $values.gatewayApi.enabled (not $values.gatewayApi.parentRefs) -}}{{- fail "gatewayApi.parentRefs is empty." -}}{{- end -}}
{{- range $name, $process := $values.processes -}}
{{- if and (dig "keda" "enabled" false $process) (dig "autoscaling" "enabled" false $process) -}}
{{- fail (printf "processes.%s: keda and autoscaling would both set the replicas; enable one." $name) -}}
{{- end -}}
{{- end -}}
{{- end }}
