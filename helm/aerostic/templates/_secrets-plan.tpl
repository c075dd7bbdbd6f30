{{/* What kit.provisioning makes for this installation. */}}
{{- define "aerostic.secretsPlan" -}}
{{- $mode := include "aerostic.databases" . -}}
{{- $host := include "aerostic.postgresHost" . -}}
{{- $at := printf "%s:%v" $host .Values.postgresql.external.port -}}
{{- $options := "" -}}
{{- if eq $mode "external" }}{{- with .Values.postgresql.external.sslmode }}{{ $options = printf "?sslmode=%s" . }}{{ end }}
{{- else }}{{ $at = printf "%s:5432" $host }}{{ end -}}
make:
  AEROSTIC_SVC_AUTH_SERVICE_KEY: key
  AEROSTIC_SVC_TENANTS_SERVICE_KEY: key
  AEROSTIC_MESSAGING_SERVER_SERVICE_KEY: key
  AEROSTIC_MESSAGING_INBOX_SERVICE_KEY: key
  AEROSTIC_MESSAGING_SENDER_SERVICE_KEY: key
  AEROSTIC_GATEWAY_SERVICE_KEY: key
  {{- /* Enabled or not: services read the list of trusted keys at their start, and would not know an operator that comes later. */}}
  AEROSTIC_OPERATOR_SERVICE_KEY: key
  AEROSTIC_AUTH_KEY_ENCRYPTION_KEYS: named-key
  AEROSTIC_TENANTS_KEY_ENCRYPTION_KEYS: named-key
  {{- if not .Values.meta.existingSecret }}
  AEROSTIC_META_APP_SECRET: hex
  AEROSTIC_META_VERIFY_TOKEN: password
  {{- end }}
  {{- if .Values.nats.enabled }}
  AEROSTIC_NATS_PASSWORD: password
  {{- end }}
  {{- if ne $mode "existing" }}
  {{- range $service, $roles := include "aerostic.roles" . | fromYaml }}
  {{- range $roles }}
  AEROSTIC_ROLE_PASSWORD_{{ upper $service }}_{{ upper . }}: password
  {{- end }}
  {{- end }}
  {{- if eq $mode "trial" }}
  AEROSTIC_POSTGRES_PASSWORD: password
  {{- end }}
  {{- end }}
trust:
  AEROSTIC_SERVICE_TRUST:
    svc-auth: AEROSTIC_SVC_AUTH_SERVICE_KEY
    svc-tenants: AEROSTIC_SVC_TENANTS_SERVICE_KEY
    messaging-server: AEROSTIC_MESSAGING_SERVER_SERVICE_KEY
    messaging-inbox: AEROSTIC_MESSAGING_INBOX_SERVICE_KEY
    messaging-sender: AEROSTIC_MESSAGING_SENDER_SERVICE_KEY
    gateway: AEROSTIC_GATEWAY_SERVICE_KEY
    operator: AEROSTIC_OPERATOR_SERVICE_KEY
{{- if or .Values.nats.enabled (ne $mode "existing") }}
compose:
  {{- if .Values.nats.enabled }}
  AEROSTIC_NATS_URL: "nats://aerostic:${AEROSTIC_NATS_PASSWORD}@{{ include "aerostic.fullname" . }}-nats:4222"
  nats-accounts.conf: 'accounts { aerostic { jetstream: enabled, users: [{ user: aerostic, password: "${AEROSTIC_NATS_PASSWORD}" }] } }'
  {{- $nats := printf "%s-nats" (include "aerostic.fullname" .) }}
  {{- if gt (int .Values.nats.replicas) 1 }}
  nats-cluster.conf: |
    cluster {
      name: {{ $nats }}
      port: 6222
      connect_retries: 120
      authorization { user: cluster, password: "${AEROSTIC_NATS_PASSWORD}", timeout: 5 }
      routes: [
        {{- range $number := until (int .Values.nats.replicas) }}
        "nats://cluster:${AEROSTIC_NATS_PASSWORD}@{{ $nats }}-{{ $number }}.{{ $nats }}-peers:6222"
        {{- end }}
      ]
    }
  {{- end }}
  {{- end }}
  {{- if ne $mode "existing" }}
  {{- range $service, $roles := include "aerostic.roles" . | fromYaml }}
  {{- range $role := $roles }}
  AEROSTIC_{{ upper $service }}_{{ if ne $role "app" }}{{ upper $role }}_{{ end }}DATABASE_URL: "postgresql://{{ $service }}_{{ $role }}:${AEROSTIC_ROLE_PASSWORD_{{ upper $service }}_{{ upper $role }}}@{{ $at }}/{{ $service }}{{ $options }}"
  {{- end }}
  {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The services' databases and the roles of each; a test holds it against deploy/postgres. */}}
{{- define "aerostic.roles" -}}
auth: [owner, app]
tenants: [owner, app]
messaging: [owner, app, worker]
{{- end }}
