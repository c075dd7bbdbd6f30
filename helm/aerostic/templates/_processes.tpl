{{/*
What runs, and what each process needs: facts of the product, not choices of an installation, which are in values.yaml
under processes.<name>. A test holds them against the table that `make up` runs from.

  room      the image; args follow its entrypoint      prefix   of its own settings
  grpc/http ports; probe: which of them tells health   portSettings  setting → port it listens on
  secrets   setting → entry of the Secret              targets  setting → process whose address it holds
  gate      package of migrations and setting with the database's URL: wait for the schema before the start
  needs     nats, postgres, internet, kubernetes: where it may connect to, beside its targets
  drain     seconds that its work may go on after SIGTERM
*/}}
{{- define "aerostic.facts" -}}
svc-auth:
  room: svc-auth
  args: [serve]
  prefix: AEROSTIC_AUTH_
  grpc: 9101
  http: 9201
  probe: grpc
  portSettings: {AEROSTIC_AUTH_PORT: 9101, AEROSTIC_AUTH_METRICS_PORT: 9201}
  secrets:
    AEROSTIC_AUTH_DATABASE_URL: AEROSTIC_AUTH_DATABASE_URL
    AEROSTIC_AUTH_KEY_ENCRYPTION_KEYS: AEROSTIC_AUTH_KEY_ENCRYPTION_KEYS
    AEROSTIC_NATS_URL: AEROSTIC_NATS_URL
    AEROSTIC_SERVICE_KEY: AEROSTIC_SVC_AUTH_SERVICE_KEY
    AEROSTIC_SERVICE_TRUST: AEROSTIC_SERVICE_TRUST
  targets: {AEROSTIC_TENANTS_TARGET: svc-tenants}
  gate: [svc_auth.migrations, AEROSTIC_AUTH_DATABASE_URL]
  needs: [nats, postgres]
  drain: 20
svc-tenants:
  room: svc-tenants
  args: [serve]
  prefix: AEROSTIC_TENANTS_
  grpc: 9102
  http: 9202
  probe: grpc
  portSettings: {AEROSTIC_TENANTS_PORT: 9102, AEROSTIC_TENANTS_METRICS_PORT: 9202}
  secrets:
    AEROSTIC_TENANTS_DATABASE_URL: AEROSTIC_TENANTS_DATABASE_URL
    AEROSTIC_TENANTS_KEY_ENCRYPTION_KEYS: AEROSTIC_TENANTS_KEY_ENCRYPTION_KEYS
    AEROSTIC_TENANTS_APP_SECRET: AEROSTIC_META_APP_SECRET
    AEROSTIC_NATS_URL: AEROSTIC_NATS_URL
    AEROSTIC_SERVICE_KEY: AEROSTIC_SVC_TENANTS_SERVICE_KEY
    AEROSTIC_SERVICE_TRUST: AEROSTIC_SERVICE_TRUST
  targets: {AEROSTIC_AUTH_TARGET: svc-auth, AEROSTIC_MESSAGING_TARGET: messaging-server}
  graph: AEROSTIC_TENANTS_GRAPH_URL
  appId: AEROSTIC_TENANTS_APP_ID
  gate: [svc_tenants.migrations, AEROSTIC_TENANTS_DATABASE_URL]
  needs: [nats, postgres, internet]
  drain: 20
messaging-server:
  room: svc-messaging
  args: [serve]
  prefix: AEROSTIC_MESSAGING_
  grpc: 9103
  http: 9203
  probe: grpc
  portSettings: {AEROSTIC_MESSAGING_PORT: 9103, AEROSTIC_MESSAGING_METRICS_PORT: 9203}
  secrets:
    AEROSTIC_MESSAGING_DATABASE_URL: AEROSTIC_MESSAGING_DATABASE_URL
    AEROSTIC_NATS_URL: AEROSTIC_NATS_URL
    AEROSTIC_SERVICE_KEY: AEROSTIC_MESSAGING_SERVER_SERVICE_KEY
    AEROSTIC_SERVICE_TRUST: AEROSTIC_SERVICE_TRUST
  targets: {AEROSTIC_AUTH_TARGET: svc-auth, AEROSTIC_TENANTS_TARGET: svc-tenants}
  gate: [svc_messaging.migrations, AEROSTIC_MESSAGING_DATABASE_URL]
  needs: [nats, postgres]
  drain: 20
messaging-inbox:
  room: svc-messaging
  args: [inbox]
  prefix: AEROSTIC_MESSAGING_
  http: 9205
  probe: http
  portSettings: {AEROSTIC_MESSAGING_METRICS_PORT: 9205}
  secrets:
    AEROSTIC_MESSAGING_WORKER_DATABASE_URL: AEROSTIC_MESSAGING_WORKER_DATABASE_URL
    AEROSTIC_NATS_URL: AEROSTIC_NATS_URL
    AEROSTIC_SERVICE_KEY: AEROSTIC_MESSAGING_INBOX_SERVICE_KEY
    AEROSTIC_SERVICE_TRUST: AEROSTIC_SERVICE_TRUST
  targets: {AEROSTIC_TENANTS_TARGET: svc-tenants}
  gate: [svc_messaging.migrations, AEROSTIC_MESSAGING_WORKER_DATABASE_URL]
  needs: [nats, postgres]
  stream: META
  drain: 30
messaging-sender:
  room: svc-messaging
  args: [sender]
  prefix: AEROSTIC_MESSAGING_
  http: 9206
  probe: http
  portSettings: {AEROSTIC_MESSAGING_METRICS_PORT: 9206}
  secrets:
    AEROSTIC_MESSAGING_WORKER_DATABASE_URL: AEROSTIC_MESSAGING_WORKER_DATABASE_URL
    AEROSTIC_NATS_URL: AEROSTIC_NATS_URL
    AEROSTIC_SERVICE_KEY: AEROSTIC_MESSAGING_SENDER_SERVICE_KEY
    AEROSTIC_SERVICE_TRUST: AEROSTIC_SERVICE_TRUST
  targets: {AEROSTIC_TENANTS_TARGET: svc-tenants}
  graph: AEROSTIC_MESSAGING_GRAPH_URL
  gate: [svc_messaging.migrations, AEROSTIC_MESSAGING_WORKER_DATABASE_URL]
  needs: [nats, postgres, internet]
  stream: SEND
  drain: 30
webhooks-ingest:
  room: svc-webhooks
  args: [ingest]
  prefix: AEROSTIC_WEBHOOKS_
  http: 9104
  probe: http
  portSettings: {AEROSTIC_WEBHOOKS_PORT: 9104}
  secrets:
    AEROSTIC_WEBHOOKS_APP_SECRETS: AEROSTIC_META_APP_SECRET
    AEROSTIC_WEBHOOKS_VERIFY_TOKEN: AEROSTIC_META_VERIFY_TOKEN
    AEROSTIC_NATS_URL: AEROSTIC_NATS_URL
  needs: [nats]
  drain: 8
gateway:
  room: gateway
  args: [serve]
  prefix: AEROSTIC_GATEWAY_
  http: 8080
  probe: http
  portSettings: {AEROSTIC_GATEWAY_PORT: 8080}
  secrets:
    AEROSTIC_NATS_URL: AEROSTIC_NATS_URL
    AEROSTIC_SERVICE_KEY: AEROSTIC_GATEWAY_SERVICE_KEY
    AEROSTIC_SERVICE_TRUST: AEROSTIC_SERVICE_TRUST
  targets:
    AEROSTIC_AUTH_TARGET: svc-auth
    AEROSTIC_TENANTS_TARGET: svc-tenants
    AEROSTIC_MESSAGING_TARGET: messaging-server
    AEROSTIC_GATEWAY_INGEST_URL: webhooks-ingest
  needs: [nats]
  isPublic: true
  drain: 8
{{- if .Values.operator.enabled }}
operator:
  room: operator
  args: [run]
  prefix: AEROSTIC_OPERATOR_
  http: 9207
  probe: http
  portSettings: {AEROSTIC_OPERATOR_METRICS_PORT: 9207}
  secrets:
    AEROSTIC_SERVICE_KEY: AEROSTIC_OPERATOR_SERVICE_KEY
  targets: {AEROSTIC_TENANTS_TARGET: svc-tenants, AEROSTIC_AUTH_TARGET: svc-auth}
  needs: [kubernetes]
  isOperator: true
  drain: 5
{{- end }}
{{- if .Values.emulator.enabled }}
meta-emulator:
  room: meta-emulator
  args: []
  prefix: AEROSTIC_EMULATOR_
  http: 8090
  probe: http
  health: /healthz
  portSettings: {AEROSTIC_EMULATOR_PORT: 8090}
  secrets:
    AEROSTIC_EMULATOR_APP_SECRET: AEROSTIC_META_APP_SECRET
    AEROSTIC_EMULATOR_VERIFY_TOKEN: AEROSTIC_META_VERIFY_TOKEN
  targets: {AEROSTIC_EMULATOR_CALLBACK_URL: gateway}
  appId: AEROSTIC_EMULATOR_APP_ID
  hasOwnSettingsOnly: true
  isSingle: true
  needs: []
  drain: 5
{{- end }}
{{- end }}

{{/* The processes of this installation, by name. */}}
{{- define "aerostic.processes" -}}
{{- include "aerostic.facts" . -}}
{{- end }}
